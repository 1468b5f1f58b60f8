/*
 * A client that walks one of its paths on a leash: the way it goes is written
 * down once, instruction by instruction; later ones are taken to any place of
 * that way.
 *
 * To be quick they are not stepped all the way: a client runs at full speed to
 * the last place before k to which the path comes for the first time, at least
 * `tail` instructions before, and is stepped from there.  What cannot be done
 * at all (no ptrace, no rgovd) ends the program with status 2 and the reason.
 */
#ifndef FAULT_WALK_H
#define FAULT_WALK_H

#include "tests/fault/common/client_path.h"
#include "tests/fault/common/stepper.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WALK_STEPS_MAX = 400000, WALK_SLEEPS_MAX = 64, WALK_TAIL = 8 };

/* The way of a path: where it was before its i-th instruction. */
struct trace {
	uintptr_t pc[WALK_STEPS_MAX + 1];
	bool is_first[WALK_STEPS_MAX + 1]; /* never there before */
	size_t n;
	size_t sleeps[WALK_SLEEPS_MAX]; /* these instructions slept */
	size_t n_sleeps;
	size_t turn; /* the sleep that its turn ended; SIZE_MAX: none */
};

struct walk {
	struct client client;
	struct stepper *leash; /* the process that goes the path */
	pid_t parent;          /* of that process, where it is not ours; or 0 */
	int go;                /* tells the witness to call; or -1 */
	/* Ends the sleep of a path that NEEDS_RELEASE or NEEDS_RESTART. */
	void (*take_turn)(void *owner);
	void *owner;
	bool has_turned;
};

/* A new client that stands before its path; the caller has set take_turn. */
void walk_begin(
	struct walk *walk, const struct client_path *path, unsigned int number);

/* To the path's end, one by one.  STEPPER_OK; STEPPER_BLOCKED where it ends
 * asleep; anything else: it did not come to its end. */
int walk_write_down(struct walk *walk, struct trace *trace);

/* To after the k-th instruction: by at least `tail` steps.  Where the way
 * differs a little (a clock's reading, a bell that need not be rung) it is the
 * place that counts, not the number of steps.  False: not found again. */
bool walk_advance(
	struct walk *walk, const struct trace *trace, size_t k, size_t tail);

/* A few steps more, until it is asleep. */
bool walk_into_sleep(struct walk *walk);

/* The last place not above k that a run at full speed finds. */
size_t walk_place_before(const struct trace *trace, size_t k);

__attribute__((noreturn)) void walk_give_up(const char *why, int code);

#endif
