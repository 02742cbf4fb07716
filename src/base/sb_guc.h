/*
 * sb_guc.h: the settings. Each is documented in docs/reference.md with unit, range and default.
 */
#ifndef SB_GUC_H
#define SB_GUC_H

extern int sb_guc_bundle_rows;
extern int sb_guc_bundle_time_ms;
extern int sb_guc_decoding_work_mem_kb;
extern int sb_guc_history_chunk_time_ms;
extern int sb_guc_history_rate;
extern int sb_guc_housekeeping_interval_s;
extern int sb_guc_letter_max_age_s;
extern int sb_guc_letter_max_count;
extern int sb_guc_lock_timeout_ms;
extern int sb_guc_max_databases;
extern int sb_guc_max_dead_letters;
extern int sb_guc_max_retained_wal_mb;
extern int sb_guc_max_retries;
extern int sb_guc_pipeline_timeout_ms;
extern int sb_guc_ring_size_kb;
extern int sb_guc_start_timeout_ms;
extern int sb_guc_state_memory_kb;

extern void sb_guc_define(void);

#endif
