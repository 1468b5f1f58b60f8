/*
 * Sleep and wake: both pairs of shm_wake.h, under store buffering, with a death
 * of rgovd at any step.
 *
 * Every CPU has a buffer: its stores go in at one end and reach memory from the
 * other at any later time; its own loads look into its buffer first.  A seq_cst
 * store waits until its buffer is empty.  (The futex call of the kernel is a
 * barrier of its own; here it is none, so that nothing rests on it.)
 *
 * Nobody's sleep has a time-out: the slice of wait.c ends a sleep here only while
 * rgovd is gone, which is all that it exists for.  So one lost wake-up is a
 * sleep without an end, and the judge finds it.
 *
 * A name in capitals that is defined breaks one rule: the mutations of `run`.
 */
#ifndef WAITERS /* threads that wait for the one request: 1 or 2 */
#define WAITERS 1
#endif
#ifndef ROUNDS /* requests; 0: any number */
#define ROUNDS 0
#endif
#ifndef BUFFERED /* 0: a store is in memory at once */
#define BUFFERED 1
#endif
#ifndef DEATHS /* of rgovd */
#define DEATHS 0
#endif

#define GENERATIONS 3
#define next(g) (((g) + 1) % GENERATIONS)
#define accepted(g) (2 * (g) + 1)
#define answered(g) (2 * (g))
#define generation_of(word) ((word) / 2)

/* ------------------------------------------------------------ memory */

#define TAIL 0    /* client_header.tail, C2 */
#define COMMAND 1 /* client_slot.word, C1: the generation */
#define WAITING 2 /* client_slot.waiting */
#define POLLING 3 /* daemon_header.polling */
#define WORD 4    /* daemon_slot.word, D3 */
byte memory[5];

#define RGOVD WAITERS /* the last CPU */
#define DEPTH 3
typedef store_buffer {
	byte n;
	byte word[DEPTH];
	byte value[DEPTH]
};
store_buffer cpu[WAITERS + 1];

inline store(p, where, what)
{
#if BUFFERED
	atomic {
		cpu[p].n < DEPTH ->
		cpu[p].word[cpu[p].n] = where;
		cpu[p].value[cpu[p].n] = what;
		cpu[p].n++
	}
#else
	memory[where] = what
#endif
}

inline fence(p)
{
	cpu[p].n == 0
}

inline load(p, where, into)
{
	d_step {
		into = memory[where];
		for (k : 0 .. DEPTH - 1) {
			if
			:: k < cpu[p].n && cpu[p].word[k] == where ->
				into = cpu[p].value[k]
			:: else
			fi
		}
		k = 0
	}
}

/* fetch_add of a thread on its own side's word */
inline add(p, where, what)
{
	atomic {
		cpu[p].n == 0 ->
		memory[where] = memory[where] + what
	}
}

/* The oldest store of one CPU reaches memory. */
proctype bus(byte p)
{
	byte k;

end:
	do
	:: d_step {
		cpu[p].n > 0 ->
		memory[cpu[p].word[0]] = cpu[p].value[0];
		cpu[p].n--;
		for (k : 1 .. DEPTH - 1) {
			cpu[p].word[k - 1] = cpu[p].word[k];
			cpu[p].value[k - 1] = cpu[p].value[k]
		}
		cpu[p].word[DEPTH - 1] = 0;
		cpu[p].value[DEPTH - 1] = 0;
		k = cpu[p].n;
		cpu[p].word[k] = 0;
		cpu[p].value[k] = 0;
		k = 0
	}
	od
}

/* ------------------------------------------------------------ properties */

bool a_bell_is_lost;    /* rgovd sleeps on a ring that is not empty */
bool a_wake_up_is_lost; /* a client sleeps on an answer; invariant 4 */
#define must(condition, property) assert((condition) || property)

/* ------------------------------------------------------------ sockets, futex */

bool bell;      /* a byte in the session socket, towards rgovd */
bool is_cut_off; /* the client's end says: rgovd is gone */
bool comes_back; /* REATTACH was sent */
bool is_reconnecting; /* the handle's second mutex */
bool asleep[WAITERS];
byte generation; /* of the request that is out */
bool is_out;     /* there is one to wait for */
byte deaths;
bool rgovd_dies;

/* ------------------------------------------------------------ the client */

/* handle_reconnect(), session_reconnect(), session_install(): by one thread,
 * again where rgovd dies meanwhile; the others look on */
inline reconnect()
{
	if
	:: atomic { is_cut_off && !is_reconnecting -> is_reconnecting = true }
		do
		:: atomic { is_cut_off -> comes_back = true }
			!comes_back
		:: atomic { !is_cut_off -> bell = true } /* session_ring() */
			break
		od;
		is_reconnecting = false
	:: !is_cut_off || is_reconnecting
	fi
}

/* wake_announce_sleep() */
inline announce(p)
{
#ifdef CLIENT_FLAG_INSTEAD_OF_COUNT
	store(p, WAITING, 1);
	fence(p);
	load(p, WORD, seen)
#else
#ifdef CLIENT_SLEEPS_WITHOUT_FENCE
	load(p, WAITING, seen);
	store(p, WAITING, seen + 1);
	load(p, WORD, seen)
#else
	add(p, WAITING, 1);
	load(p, WORD, seen)
#endif
#endif
}

inline withdraw(p)
{
#ifdef CLIENT_FLAG_INSTEAD_OF_COUNT
	store(p, WAITING, 0)
#else
	add(p, WAITING, 255)
#endif
}

/* sleep_slice(), futex_wait(): the kernel compares and queues in one step */
inline sleep(p)
{
	announce(p);
	if
	:: atomic { seen != answered(mine) && memory[WORD] == seen ->
		asleep[p] = true }
		if
		:: !asleep[p] /* FUTEX_WAKE */
		:: atomic { asleep[p] && is_cut_off -> /* the slice passed */
			asleep[p] = false }
			must_look = true
		:: atomic { p > 0 && asleep[p] && memory[WORD] != answered(mine) ->
			/* a signal, or the caller's own time-out */
			asleep[p] = false }
			gives_up = true
		fi
	:: seen != answered(mine) && memory[WORD] != seen /* EAGAIN */
	:: seen == answered(mine)
	fi;
	withdraw(p);
	seen = 0
}

/* wait_for_answer(); session_is_past(): another thread took it */
inline wait(p)
{
	do
	:: load(p, WORD, seen);
		if
		:: seen == answered(mine) ||
				(generation_of(seen) != mine &&
					generation_of(seen) != last) -> break
		:: else
		fi;
		seen = 0;
		sleep(p);
		if
		:: must_look -> must_look = false; reconnect()
		:: gives_up -> break
		:: else
		fi
	od;
	gives_up = false;
	seen = 0
}

/* commit(), session_command(), wake_publish_tail() */
inline submit(p)
{
	store(p, COMMAND, mine);
	store(p, TAIL, mine);
#ifndef CLIENT_PUBLISHES_WITHOUT_FENCE
	fence(p);
#endif
	load(p, POLLING, seen);
	if
	:: atomic { seen == 0 -> bell = !is_cut_off || bell }
	:: seen != 0
	fi;
	seen = 0
}

/* Submits again and again, and waits each time. */
proctype owner()
{
	byte seen, mine, last, k, round;
	bool must_look, gives_up;

	do
	:: ROUNDS == 0 || round < ROUNDS ->
		last = mine;
		mine = next(mine);
		round = (ROUNDS > 0 -> round + 1 : 0);
		submit(0);
		atomic {
			generation = mine;
			is_out = true
		}
		wait(0);
		is_out = false
	:: break
	od
}

/* Another thread with the same ticket, which may give up; a wait of its own that
 * ends late meets the next request. */
proctype guest()
{
	byte seen, mine, last, k;
	bool must_look, gives_up;

end:
	do
	:: atomic {
		is_out ->
		mine = generation;
		last = (mine + GENERATIONS - 1) % GENERATIONS
	}
		wait(1)
	od
}

/* ------------------------------------------------------------ rgovd */

/* wake_publish_word() and wake() */
inline answer()
{
	store(RGOVD, WORD, answered(own));
#ifndef RGOVD_ANSWERS_WITHOUT_FENCE
	fence(RGOVD);
#endif
	has_work = false;
	wake_sleepers()
}

inline wake_sleepers()
{
	load(RGOVD, WAITING, seen);
	if
	:: seen != 0 -> d_step { /* FUTEX_WAKE, INT_MAX */
		for (k : 0 .. WAITERS - 1) {
			asleep[k] = false
		}
		k = 0
	}
	:: seen == 0
	fi;
	seen = 0
}

inline accept(g)
{
	own = g;
	store(RGOVD, WORD, accepted(own));
	has_work = true
}

/* door_poll(), ring_take(); the word is the truth, the entry a hint */
inline take()
{
	load(RGOVD, TAIL, seen);
	if
	:: seen != head ->
		head = seen;
		load(RGOVD, COMMAND, seen);
		if
		:: seen != own -> accept(seen)
		:: seen == own /* stale */
		fi
	:: seen == head -> prepare_sleep()
	fi;
	seen = 0
}

/* door_prepare_sleep(), wake_stop_polling() */
inline prepare_sleep()
{
	store(RGOVD, POLLING, 0);
#ifndef RGOVD_SLEEPS_WITHOUT_FENCE
	fence(RGOVD);
#endif
	load(RGOVD, TAIL, seen);
	if
	:: seen != head -> store(RGOVD, POLLING, 1)
	:: seen == head -> is_active = false
	fi
}

/* on_reattach(): the tail, the slot, who sleeps; then it is polled */
inline recover()
{
	load(RGOVD, TAIL, head);
	load(RGOVD, WORD, seen);
	own = generation_of(seen);
	has_work = (seen == accepted(own));
	if
	:: seen == answered(own) ->
#ifndef RECOVERY_WAKES_NOBODY
		wake_sleepers()
#endif
	:: else
	fi;
	load(RGOVD, COMMAND, seen);
	if
	:: seen != own -> accept(seen)
	:: seen == own
	fi;
	seen = 0;
	store(RGOVD, POLLING, 1);
	is_active = true;
	d_step {
		is_cut_off = false;
		bell = false; /* of the old socket */
		comes_back = false
	}
}

proctype rgovd()
{
	byte head, own, seen, k;
	bool is_active, has_work;

	{
start:
end:
		do
		:: is_cut_off && comes_back -> recover()
		:: !is_cut_off && bell -> bell = false; /* active_add() */
			store(RGOVD, POLLING, 1);
			is_active = true
		:: !is_cut_off && is_active -> take()
		:: !is_cut_off && has_work -> answer()
		od
	} unless {
		rgovd_dies ->
		d_step { /* what it had stored is stored */
			cpu[RGOVD].n == 0 ->
			rgovd_dies = false;
			is_cut_off = true;
			comes_back = false;
			bell = false;
			head = 0;
			own = 0;
			seen = 0;
			k = 0;
			is_active = false;
			has_work = false
		}
		goto start
	}
}

proctype fate()
{
	do
	:: atomic { deaths < DEATHS && !rgovd_dies ->
		rgovd_dies = true;
		deaths++
	}
	:: break
	od
}

/* When nothing can move any more. */
proctype judge()
{
	atomic {
		timeout ->
		must(rgovd:head == memory[TAIL] || is_cut_off, a_bell_is_lost);
		must(!asleep[0] && !asleep[WAITERS - 1], a_wake_up_is_lost)
	}
}

init
{
	byte p;

	atomic {
		run owner();
#if WAITERS > 1
		run guest();
#endif
		run rgovd();
		for (p : 0 .. WAITERS) {
			run bus(p)
		}
		p = 0;
		run fate();
		run judge()
	}
}
