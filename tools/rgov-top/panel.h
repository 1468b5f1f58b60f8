/* The lines above the tables: how rgovd does, and how near the limits are. */
#ifndef RGOV_TOP_PANEL_H
#define RGOV_TOP_PANEL_H

#include "tools/rgov-top/views.h"

/* One more where the quota is shared with other hosts. */
int panel_rows(const struct look *look);

void panel_draw(struct canvas *canvas, const struct look *look);

/* FIGURE(name, how to read it) */
#define PANEL_FIGURES(FIGURE)                                                  \
	FIGURE("heartbeat",                                                    \
		"age of rgovd's last sign of life; above 2 s: it hangs, is "   \
		"stopped, or is dead")                                         \
	FIGURE("config",                                                       \
		"how often the configuration was replaced; it grows with a "   \
		"good reload")                                                 \
	FIGURE("Running",                                                      \
		"calls and permits out: now / host-wide limit, and the most "  \
		"there were; full while requests wait: concurrency is what "   \
		"holds them back")                                             \
	FIGURE("Queue",                                                        \
		"requests waiting: now / bound, and the most there were; "     \
		"at the bound further ones are refused")                       \
	FIGURE("Starts",                                                       \
		"requests started in the current window / host-wide limit; "   \
		"full while requests wait: requests per minute hold them "     \
		"back")                                                        \
	FIGURE("Oldest",                                                       \
		"how long the first in the queue has waited; if it keeps "     \
		"rising, the limits are too small for the load")               \
	FIGURE("unreadable",                                                   \
		"records of the board that rgovd died or hangs in; they are "  \
		"shown as they were last, or not at all")                      \
	FIGURE("sessions", "worker processes that are registered / bound")     \
	FIGURE("throttled",                                                    \
		"throttles the provider sent; above 0: it allows less than "   \
		"is configured, or somebody else uses the quota")              \
	FIGURE("refused",                                                      \
		"turned away at once: a queue bound, too large, invalid, "     \
		"draining")                                                    \
	FIGURE("Wait",                                                         \
		"half (p50), 95 or 99 of 100 requests waited no longer; of "   \
		"the last minute, or since rgovd started when there were "     \
		"none")                                                        \
	FIGURE("Cluster",                                                      \
		"one quota for several hosts: leased from Redis; pending: "    \
		"Redis does not yet know all hosts; apart: no answer of "      \
		"Redis, on_cluster_loss holds.  Left: starts of the lease "    \
		"that need no asking; others: what the other hosts have")

#endif
