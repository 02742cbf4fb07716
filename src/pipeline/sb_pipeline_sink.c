/*
 * sb_pipeline_sink.c: the sinks of a pipeline; see sink/sb_sink.h.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "pipeline/sb_pipeline.h"
#include "pipeline/sb_pipeline_private.h"
#include "utils/memutils.h"

void
sb_pipeline_add_sink(SbPipeline *pipeline, const SbSinkKind *kind, void *sink)
{
	MemoryContext old = MemoryContextSwitchTo(pipeline->context);
	SbSink *added = palloc(sizeof(SbSink));

	*added = (SbSink){.kind = kind, .sink = sink};
	pipeline->sinks = lappend(pipeline->sinks, added);
	pipeline->wants_panes = pipeline->wants_panes || kind->wants_panes;
	MemoryContextSwitchTo(old);
}

void
sb_pipeline_remove_sink(SbPipeline *pipeline, const SbSinkKind *kind)
{
	ListCell *lc;

	foreach (lc, pipeline->sinks)
	{
		SbSink *sink = lfirst(lc);

		if (sink->kind != kind)
			continue;
		pipeline->sinks = foreach_delete_current(pipeline->sinks, lc);
		pfree(sink);
	}
}

void
sb_pipeline_put(SbPipeline *pipeline, SbWindow window, const SbPane *pane, int op)
{
	SbSinkRow row = {.pane = pane,
	                 .window = window,
	                 .values = pipeline->out_values,
	                 .nulls = pipeline->out_nulls,
	                 .op = op};

	sb_pipeline_put_row(pipeline, &row, SB_ALL_SINKS);
}

static inline bool
sink_is_of(const SbSink *sink, SbSinkSet which)
{
	return which == SB_ALL_SINKS || sink->kind->may_refuse == (which == SB_SINKS_THAT_REFUSE);
}

void
sb_pipeline_put_row(SbPipeline *pipeline, const SbSinkRow *row, SbSinkSet which)
{
	foreach_ptr(SbSink, sink, pipeline->sinks)
	{
		if (sink_is_of(sink, which) && (row->op != 0 || sink->kind->wants_panes))
			sink->kind->put(sink->sink, row);
	}
}

void
sb_pipeline_remove_row(SbPipeline *pipeline, SbWindow window, const Datum *keys, const bool *nulls,
                       SbSinkSet which)
{
	foreach_ptr(SbSink, sink, pipeline->sinks)
	{
		if (sink_is_of(sink, which) && sink->kind->remove)
			sink->kind->remove(sink->sink, window, keys, nulls);
	}
}

bool
sb_pipeline_has_rows(const SbPipeline *pipeline)
{
	foreach_ptr(SbSink, sink, pipeline->sinks)
	{
		if (sink->kind->is_pending && sink->kind->is_pending(sink->sink))
			return true;
	}
	return false;
}

void
sb_pipeline_write_rows(SbPipeline *pipeline)
{
	foreach_ptr(SbSink, sink, pipeline->sinks)
	{
		if (sink->kind->is_pending && sink->kind->is_pending(sink->sink))
			sink->kind->write(sink->sink);
	}
}

void
sb_pipeline_put_late(SbPipeline *pipeline, const SbLateEvent *event, const char *json)
{
	foreach_ptr(SbSink, sink, pipeline->sinks)
	{
		if (sink->kind->late)
			sink->kind->late(sink->sink, event, json);
	}
}
