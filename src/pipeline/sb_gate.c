/*
 * sb_gate.c: the gates of a pipeline; see sb_gate.h.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "pipeline/sb_gate.h"
#include "pipeline/sb_pipeline.h"
#include "utils/memutils.h"

void
sb_gate_add(SbPipeline *pipeline, const SbGateKind *kind, void *gate)
{
	MemoryContext old = MemoryContextSwitchTo(pipeline->context);
	SbGate *added = palloc(sizeof(SbGate));

	*added = (SbGate){.kind = kind, .gate = gate};
	sb_input(pipeline)->gates = lappend(sb_input(pipeline)->gates, added);
	MemoryContextSwitchTo(old);
}

void
sb_gate_remove(SbPipeline *pipeline, const SbGateKind *kind)
{
	ListCell *lc;

	foreach (lc, sb_input(pipeline)->gates)
	{
		SbGate *gate = lfirst(lc);

		if (gate->kind != kind)
			continue;
		sb_input(pipeline)->gates = foreach_delete_current(sb_input(pipeline)->gates, lc);
		pfree(gate);
	}
}

void *
sb_gate_of(const SbPipeline *pipeline, const SbGateKind *kind)
{
	foreach_ptr(SbGate, gate, sb_input(pipeline)->gates)
	{
		if (gate->kind == kind)
			return gate->gate;
	}
	return NULL;
}

bool
sb_gates_leave_out(SbPipeline *pipeline, const SbRow *row)
{
	foreach_ptr(SbGate, gate, sb_input(pipeline)->gates)
	{
		if (gate->kind->leaves_out && gate->kind->leaves_out(pipeline, gate->gate, row))
			return true;
	}
	return false;
}

bool
sb_gates_leave_out_of(const SbPipeline *pipeline, const SbRow *row, SbWindow window)
{
	foreach_ptr(SbGate, gate, sb_input(pipeline)->gates)
	{
		if (gate->kind->leaves_out_of && gate->kind->leaves_out_of(gate->gate, row, window))
			return true;
	}
	return false;
}

bool
sb_gates_spare(const SbPipeline *pipeline, const SbMessage *truncate, SbWindowRange *range)
{
	foreach_ptr(SbGate, gate, sb_input(pipeline)->gates)
	{
		if (gate->kind->spares && gate->kind->spares(gate->gate, truncate, range))
			return true;
	}
	return false;
}

void
sb_gates_emptied(SbPipeline *pipeline, const SbMessage *truncate)
{
	foreach_ptr(SbGate, gate, sb_input(pipeline)->gates)
	{
		if (gate->kind->emptied)
			gate->kind->emptied(pipeline, gate->gate, truncate);
	}
}

void
sb_gates_reached(SbPipeline *pipeline, XLogRecPtr position)
{
	foreach_ptr(SbGate, gate, sb_input(pipeline)->gates)
	{
		if (gate->kind->reached)
			gate->kind->reached(pipeline, gate->gate, position);
	}
}

bool
sb_gates_are_open(const SbPipeline *pipeline)
{
	foreach_ptr(SbGate, gate, sb_input(pipeline)->gates)
	{
		if (gate->kind->is_open && !gate->kind->is_open(gate->gate))
			return false;
	}
	return true;
}

bool
sb_gates_judge_rows(const SbPipeline *pipeline)
{
	foreach_ptr(SbGate, gate, sb_input(pipeline)->gates)
	{
		if (gate->kind->leaves_out)
			return true;
	}
	return false;
}

void
sb_gates_write(SbPipeline *pipeline)
{
	foreach_ptr(SbGate, gate, sb_input(pipeline)->gates)
	{
		if (gate->kind->write)
			gate->kind->write(pipeline, gate->gate);
	}
}

void
sb_gates_accept(SbPipeline *pipeline)
{
	ListCell *lc;

	foreach (lc, sb_input(pipeline)->gates)
	{
		SbGate *gate = lfirst(lc);

		if (gate->kind->accept == NULL || gate->kind->accept(pipeline, gate->gate))
			continue;
		sb_input(pipeline)->gates = foreach_delete_current(sb_input(pipeline)->gates, lc);
		pfree(gate);
	}
}

void
sb_gates_rollback(SbPipeline *pipeline)
{
	foreach_ptr(SbGate, gate, sb_input(pipeline)->gates)
	{
		if (gate->kind->rollback)
			gate->kind->rollback(pipeline, gate->gate);
	}
}
