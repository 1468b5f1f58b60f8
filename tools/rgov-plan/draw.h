/*
 * Seeded chance as pure functions: the draw for the n-th question of a user is
 * the same in every schedule.  And the words that name a distribution, those of
 * bedrock-sim.
 */
#ifndef PLAN_DRAW_H
#define PLAN_DRAW_H

#include <stdbool.h>
#include <stdint.h>

#define DRAW_S UINT64_C(1000000000)
#define DRAW_MOST_S (366.0 * 86400) /* of any time */

enum draw_kind { DRAW_FIXED, DRAW_UNIFORM, DRAW_EXP, DRAW_LOGNORMAL };

/* Of times in seconds, or of tokens. */
struct draw_spread {
	enum draw_kind kind;
	double a, b;
};

/* What a draw is for: each has numbers of its own. */
enum draw_purpose {
	DRAW_ARRIVAL = 1,
	DRAW_LATENCY,
	DRAW_LATENCY_2,
	DRAW_INPUT,
	DRAW_OUTPUT,
	DRAW_THROTTLE,
	DRAW_TRANSIENT,
};

/* What one stream of draws is numbered by. */
struct draw_stream {
	uint64_t seed, owner;
};

/* In (0, 1). */
double draw_fraction(
	struct draw_stream stream, enum draw_purpose purpose, uint64_t number);

/* A time in ns. */
uint64_t draw_time_ns(const struct draw_spread *spread,
	struct draw_stream stream, uint64_t number);
/* A whole number between a and b. */
uint64_t draw_tokens(const struct draw_spread *spread,
	struct draw_stream stream, enum draw_purpose purpose, uint64_t number);

/* "30s", "250ms", "2m", "1h", "1d", "1.5"; false: it is not one. */
bool draw_read_time(const char *text, double *ret_s);
/* "fixed:5s", "uniform:1,2", "exp:5", "lognormal:8,0.5". */
bool draw_read_latency(const char *text, struct draw_spread *ret_spread);
/* "500" or "20,200". */
bool draw_read_tokens(const char *text, struct draw_spread *ret_spread);

#endif
