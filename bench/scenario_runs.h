/* What the lines of scenario_table do: one round each. See scenario.h. */
#ifndef BENCH_SCENARIO_RUNS_H
#define BENCH_SCENARIO_RUNS_H

#include "bench/scenario.h"

typedef bool scenario_run(const struct scenario *scenario, struct round *round);

scenario_run bulk_run;              /* throughput of `flows` in `direction` */
scenario_run messages_run;          /* closed loop: messages of a size, each sent when the last is back */
scenario_run latency_rate_run;      /* open loop: messages at a fixed rate, timed from the plan */
scenario_run latency_loaded_run;    /* the same while `flows` of bulk saturate */
scenario_run latency_busy_run;      /* the same beside bulk of four fifths of what goes through, and idle */
scenario_run opens_run;             /* connections per second, `at_once` */
scenario_run idle_run;              /* the same, and bulk, with and without `idle_flows` held */
scenario_run jumps_run;             /* whole SSH connections per second, `at_once` */
scenario_run memory_connection_run; /* the server's memory for each of `flows` idle SSH connections */
scenario_run memory_flow_run;       /* memory for each of `idle_flows` */
scenario_run memory_limit_run;      /* what `idle_flows` stalled at full windows take, and what is left of it */
scenario_run fairness_run;          /* shares of `flows` */
scenario_run stalled_run;           /* what others have while readers stall */
scenario_run rekey_bulk_run;        /* longest stall of bulk that rekeys all the time */
scenario_run rekey_latency_run;     /* messages at a fixed rate that rekey all the time */
scenario_run rekey_busy_run;        /* the same beside bulk at a fixed rate */
scenario_run recovery_killed_run;   /* the client is killed */
scenario_run recovery_cut_run;      /* the link is cut for a while */
scenario_run rtt_run;               /* bulk over a long link */
scenario_run soak_run;              /* everything at once, for long, `rate` flows a second */
scenario_run distance_run;          /* the same, with the share of the link and how soon that is had */

#endif
