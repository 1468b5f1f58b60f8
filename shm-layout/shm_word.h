/*
 * The 32-bit word of a slot: {generation:24, low:8}.  The client's word carries
 * a command, rgovd's a state; both carry the generation, which tells one
 * request of a slot from the next.
 */
#ifndef SHM_WORD_H
#define SHM_WORD_H

#include <stdbool.h>
#include <stdint.h>

/* What the client says: who writes it when is in LAYOUT.md. */
enum shm_command {
	SHM_NONE = 0,   /* the slot was never used */
	SHM_SUBMIT = 1, /* a request of this generation is in the slot */
	SHM_CANCEL = 2, /* ... and is no longer wanted */
	SHM_SETTLE = 3, /* the permit of this generation is given back */
	SHM_ACK = 4,    /* the reply was read; its pages may go */
};

/* What rgovd says. */
enum shm_state {
	SHM_DONE = 0,     /* answered; also: never used */
	SHM_ACCEPTED = 1, /* queued */
	SHM_ISSUED = 2,   /* sent upstream, or about to be */
	SHM_GRANTED = 3,  /* a permit is out; DONE when it is settled */
};

#define SHM_GENERATION_MASK 0xffffffu

static inline uint32_t shm_word(uint32_t generation, uint32_t low)
{
	return (generation & SHM_GENERATION_MASK) << 8 | (low & 0xffu);
}

static inline uint32_t shm_generation(uint32_t word)
{
	return word >> 8;
}

static inline uint32_t shm_low(uint32_t word)
{
	return word & 0xffu;
}

static inline uint32_t shm_next_generation(uint32_t generation)
{
	return (generation + 1) & SHM_GENERATION_MASK;
}

/* How many steps `newer` is ahead of `older`, modulo 2^24. */
static inline uint32_t shm_generations_between(uint32_t older, uint32_t newer)
{
	return (newer - older) & SHM_GENERATION_MASK;
}

/* Does the client's wait for this generation end with this daemon word? */
static inline bool shm_word_is_answer(uint32_t daemon_word, uint32_t generation)
{
	return shm_generation(daemon_word) == generation &&
	       (shm_low(daemon_word) == SHM_DONE ||
		       shm_low(daemon_word) == SHM_GRANTED);
}

#endif
