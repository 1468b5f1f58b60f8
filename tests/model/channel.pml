/*
 * The channel between one session and rgovd, with a kill of either side between
 * any two stores: submit, accept, issue, complete, collect, cancel, ack, permits,
 * recovery, and a second death inside the recovery.
 *
 * Each step names the function of the code that it stands for.  What is checked,
 * what is left out, and how far it is explored: README.md.  Memory is in order
 * here (release and acquire see to that); store buffering is wake.pml's.
 *
 * A name in capitals that is defined breaks one rule of the protocol: the
 * mutations of `run`.
 */
#ifndef SLOTS
#define SLOTS 1
#endif
#ifndef GENERATIONS /* 2^24 in the code; small, so that the wrap is met */
#define GENERATIONS 3
#endif
#ifndef REQUESTS /* 0: any number */
#define REQUESTS 0
#endif
#ifndef DEATHS /* of rgovd; 0: any number */
#define DEATHS 0
#endif
#ifndef CANCELS /* may a request be cancelled? */
#define CANCELS 1
#endif
#ifndef CLIENT_DEATH
#define CLIENT_DEATH 1
#endif
#ifndef IDEMPOTENT
#define IDEMPOTENT 0
#endif
#ifndef KINDS /* 1: calls, 2: permits, 3: both */
#define KINDS 3
#endif

#ifndef BOUND /* "Why the ring cannot overflow", LAYOUT.md */
#define BOUND (7 * SLOTS + 1)
#endif
#define TORN GENERATIONS      /* half written: of no generation */
#define next(g) (((g) + 1) % GENERATIONS)
#define ahead(ours, theirs) (((theirs) + GENERATIONS - (ours)) % GENERATIONS)

/* shm_word.h */
mtype:command = { NONE, SUBMIT, CANCEL, SETTLE, ACK };
mtype:state = { DONE, ACCEPTED, ISSUED, GRANTED };
mtype:kind = { CALL, PERMIT };
/* request.h: what rgovd itself knows of a request */
mtype:stage = { NOTHING, INTAKE, QUEUED, CALLING, SENT, HELD };

/* ------------------------------------------------------------ shared memory */

typedef client_slot {
	byte generation; /* word, C1 */
	mtype:command command;
	byte body;      /* of which generation the bytes are, or TORN */
	mtype:kind kind /* the descriptor */
};
typedef daemon_slot {
	byte generation; /* word, D3 */
	mtype:state state;
	byte reply;  /* of which generation, or TORN */
	bool is_good /* its result: OK */
};
typedef entry {
	byte slot;
	byte generation;
	mtype:command command
};
client_slot client[SLOTS];
daemon_slot daemon[SLOTS];
/* The ring between head and tail: only the difference of the two matters, so
 * what was read moves out.  C2 counts up, rgovd counts down. */
entry ring[BOUND];
byte waiting;
bool board[SLOTS]; /* its permit is listed there: outlives rgovd */

/* ------------------------------------------------------------ private */

typedef own_slot {
	byte generation;
	mtype:state state;
	mtype:stage stage;
	bool is_unwanted;
	bool is_counted; /* its permit, by the policy */
	bool is_ghost    /* its permit, from the predecessor's board */
};
own_slot own[SLOTS]; /* door_slot and request: lost with rgovd */
bool is_attached;    /* rgovd serves the session */
bool rgovd_dies, client_died;

bool is_locked;       /* the handle's mutex */
bool is_closing;      /* the client begins nothing more */
bool is_held[SLOTS];  /* a permit that the caller has, and has not given back */
byte requests[SLOTS]; /* begun, where they are bounded */
byte users;

/* What only the judge knows. */
bool was_sent[SLOTS];    /* a call of this generation is upstream, end unknown */
bool has_expired[SLOTS]; /* the permit of this generation was not settled in time */

/* ------------------------------------------------------------ properties */

/* Never assigned: spin prints the condition that failed, and so the name. */
bool a_body_is_not_as_submitted;       /* invariant 1 */
bool a_call_is_sent_twice;             /* 2 */
bool a_generation_ends_twice;          /* 3 */
bool somebody_waits_for_ever;          /* 4 */
bool generations_part;                 /* 5 */
bool a_reply_is_torn_or_anothers;      /* 6 */
bool something_is_leaked;              /* 7 */
bool an_honest_session_is_closed;      /* 8, from the honest side */
bool a_held_permit_is_not_counted;     /* 11 */
bool the_ring_overruns;
#define must(condition, property) assert((condition) || property)

/* ------------------------------------------------------------ the client */

#define word_is_answer(s)                                                      \
	(daemon[s].generation == client[s].generation &&                       \
		(daemon[s].state == DONE || daemon[s].state == GRANTED))

/* session_command(): the slot's word, the ring entry, the tail; each a store */
inline store_word(s, what) /* C1 */
{
	client[s].command = what;
	must(ahead(daemon[s].generation, client[s].generation) <= 1,
		generations_part);
}

inline publish_tail(s, what) /* C2; the bell is wake.pml's */
{
	must(waiting < BOUND, the_ring_overruns);
	ring[waiting].slot = s;
	ring[waiting].generation = client[s].generation;
	ring[waiting].command = what;
	waiting++
}

inline publish_command(s, what)
{
#ifdef TAIL_BEFORE_ENTRY
	/* What an older lap has left in that cell is read for it. */
	atomic {
		must(waiting < BOUND, the_ring_overruns);
		ring[waiting].slot = s;
		ring[waiting].generation = 0;
		ring[waiting].command = NONE;
		waiting++
	}
	atomic { /* the entry: in place where it was not read yet */
		if
		:: waiting > 0 && ring[waiting - 1].command == NONE ->
			ring[waiting - 1].generation = client[s].generation;
			ring[waiting - 1].command = what
		:: else
		fi;
		is_locked = false
	}
#else
	atomic { /* nobody sees the entry before C2 */
		publish_tail(s, what);
		is_locked = false
	}
#endif
}

/* fill_slot(): write_body(), describe(); without the lock */
inline fill(s, whose)
{
	client[s].body = TORN;
	atomic {
		client[s].body = whose;
		if
		:: KINDS & 1 -> client[s].kind = CALL
		:: KINDS & 2 -> client[s].kind = PERMIT
		fi
	}
}

/* commit(); the lock is given back by publish_command() */
inline store_submit(s)
{
	atomic {
		!is_locked ->
		is_locked = true;
		if
		:: REQUESTS > 0 -> requests[s]++
		:: else
		fi;
		was_sent[s] = false;
		has_expired[s] = false;
		client[s].generation = next(client[s].generation);
		store_word(s, SUBMIT)
	}
}

/* post_cancel(), settle_in(), session_finish_slot() */
inline command_about(s, what)
{
	atomic {
		!is_locked ->
		is_locked = true;
		is_cancelled = (what == CANCEL);
		is_held[s] = false;
		store_word(s, what)
	}
	publish_command(s, what)
}

/* From C2 to finish_slot(): rgov_wait(), rgov_cancel().  rgov_abandon() is a
 * cancel after which nobody looks at the answer. */
inline wait(s)
{
	do
	:: atomic {
		word_is_answer(s) && !has_read ->
		/* read_reply(), without the lock */
		must(daemon[s].reply == client[s].generation,
			a_reply_is_torn_or_anothers);
		is_good = daemon[s].is_good;
		has_read = true
	}
	:: CANCELS && !is_cancelled -> command_about(s, CANCEL)
#ifdef REUSE_BEFORE_DONE
	:: is_cancelled && !has_read -> break
#endif
	:: atomic {
		has_read && !is_locked ->
		/* finish_slot(), hide_cancelled_grant() */
		is_held[s] = (client[s].kind == PERMIT && is_good &&
			!is_cancelled);
		has_read = false;
		is_good = false
	}
		break
	od
}

/* One slot, with whichever thread uses it: they share the lock alone. */
proctype user_of(byte s)
{
	bool is_cancelled, has_read, is_good;

	{
		do
		:: is_closing -> break
		:: !is_closing && (REQUESTS == 0 || requests[s] < REQUESTS) ->
#ifndef WORD_BEFORE_BODY
			fill(s, next(client[s].generation));
			store_submit(s);
#else
			store_submit(s);
			fill(s, client[s].generation);
#endif
			publish_command(s, SUBMIT);
			wait(s);
			is_cancelled = false;
			if
			:: is_held[s] -> command_about(s, SETTLE)
			:: !is_held[s] && client[s].kind == CALL -> /* large */
				command_about(s, ACK)
			:: !is_held[s]
			fi
		od
	} unless {
		client_died
	}
	users--
}

/* ------------------------------------------------------------ rgovd: answers */

/* publish() and mark() of answer.c: D3 */
inline publish(s, what)
{
	must(daemon[s].generation != own[s].generation ||
			daemon[s].state != DONE,
		a_generation_ends_twice);
	own[s].state = what;
	daemon[s].generation = own[s].generation;
	daemon[s].state = what;
	must(ahead(daemon[s].generation, client[s].generation) <= 1,
		generations_part)
}

/* write_body(), write_reply(), then the word */
inline answer(s, next_stage, what, good)
{
#ifdef DONE_BEFORE_REPLY
	atomic { publish(s, what) }
#endif
	atomic {
		own[s].stage = next_stage;
		own[s].is_unwanted = false;
		daemon[s].reply = TORN
	}
	atomic {
		daemon[s].reply = own[s].generation;
		daemon[s].is_good = good
	}
#ifndef DONE_BEFORE_REPLY
	atomic { publish(s, what) }
#endif
}

inline complete(s, good) /* door_complete() */
{
	answer(s, NOTHING, DONE, good)
}

inline punch(s) /* answer_punch() */
{
	daemon[s].reply = TORN
}

/* permit_finish(): the books, the board, then door_release() */
inline finish_permit(s)
{
	atomic {
		own[s].is_counted = false;
		own[s].stage = NOTHING;
		board[s] = false
	}
	atomic { publish(s, DONE) }
}

/* ------------------------------------------------------------ rgovd: ring.c */

inline expel()
{
	must(false, an_honest_session_is_closed)
}

#define is_answered(s)                                                         \
	(own[s].state == GRANTED ||                                            \
		(own[s].state == DONE && own[s].stage == NOTHING))

/* judge_word(): may the client say this now? */
#define is_wrong(s)                                                            \
	(distance > 1 ||                                                       \
		(command == NONE && !(distance == 0 && generation == 0)) ||    \
		(distance == 1 && command != SUBMIT && command != CANCEL) ||   \
		(distance == 1 && !is_answered(s)))

inline accept_new(s)
{
	if
	:: own[s].state == GRANTED && own[s].stage == HELD -> finish_permit(s)
	:: else
	fi;
	atomic {
		own[s].generation = generation;
		own[s].state = DONE;
		own[s].is_unwanted = false;
		if /* submit(), on_submitted() */
		:: command != CANCEL -> own[s].stage = INTAKE
		:: else
		fi
	}
	if
	:: command == CANCEL -> complete(s, false) /* answer_at_once() */
	:: else
	fi
}

/* on_cancelled(), withdraw(); a permit that is out comes back unused */
inline cancel(s)
{
	if
#ifdef CANCEL_AFTER_DONE_ANSWERS
	:: own[s].stage == NOTHING -> complete(s, false)
#else
	:: own[s].stage == NOTHING /* answered meanwhile */
#endif
	:: own[s].stage == INTAKE -> own[s].is_unwanted = true
	:: own[s].stage == HELD -> finish_permit(s)
	:: own[s].stage == QUEUED || own[s].stage == CALLING ||
			own[s].stage == SENT ->
		complete(s, false)
	fi
}

inline obey(s)
{
	if
#ifndef CANCEL_IGNORED
	:: command == CANCEL -> cancel(s)
#endif
	:: command == SETTLE && own[s].state == GRANTED &&
			own[s].stage == HELD ->
		finish_permit(s)
	:: command == ACK && own[s].state == DONE -> punch(s)
	:: else /* stale: counted */
	fi
}

inline take_late_ack(s)
{
	if
	:: hint_command == ACK && hint_generation == own[s].generation &&
			is_answered(s) ->
		punch(s)
	:: else
	fi
}

inline pop()
{
	hint_slot = ring[0].slot;
	hint_generation = ring[0].generation;
	hint_command = ring[0].command;
	waiting--;
	for (i : 0 .. waiting) {
		if
		:: i < waiting ->
			ring[i].slot = ring[i + 1].slot;
			ring[i].generation = ring[i + 1].generation;
			ring[i].command = ring[i + 1].command
		:: else ->
			ring[i].slot = 0;
			ring[i].generation = 0;
			ring[i].command = NONE
		fi
	}
	i = 0
}

inline load_word(s) /* D1 */
{
	generation = client[s].generation;
	command = client[s].command;
	distance = ahead(own[s].generation, generation)
}

/* ring_take(), one entry: take_entry() */
inline take_entry()
{
	atomic {
		pop();
		at = hint_slot;
		load_word(at);
#ifdef STALE_IS_AN_ATTACK
		if
		:: distance == 0 && command == SUBMIT -> expel()
		:: else
		fi;
#endif
#ifdef NO_GENERATIONS
		/* Only commands and states are left to go by. */
		distance = 0;
		if
		:: command == SUBMIT && is_answered(at) -> distance = 1
		:: else
		fi;
		hint_generation = generation
#else
		if
		:: is_wrong(at) -> expel()
		:: else
		fi
#endif
	}
	if
#ifndef OLD_HINT_IS_TAKEN
	:: hint_generation != generation -> take_late_ack(at)
	:: hint_generation == generation && distance != 0 ->
		accept_new(at)
	:: hint_generation == generation && distance == 0 -> obey(at)
#else
	:: distance != 0 -> accept_new(at)
	:: distance == 0 -> obey(at)
#endif
	fi
}

/* ------------------------------------------------------------ rgovd: calls */

/* on_body_taken(), enqueue(): accepted, refused, or unwanted meanwhile */
inline take_body(s)
{
	must(client[s].kind == PERMIT ||
			client[s].body == own[s].generation,
		a_body_is_not_as_submitted);
	if
	:: atomic { /* door_mark_accepted() */
		!own[s].is_unwanted ->
		own[s].stage = QUEUED;
		publish(s, ACCEPTED)
	}
	:: complete(s, false) /* refuse(), or unwanted */
	fi
}

/* grant(): counted, on the board, then the worker learns it */
inline grant(s)
{
#ifdef GRANTED_BEFORE_LISTED
	answer(s, HELD, GRANTED, true);
#endif
	atomic {
		own[s].is_counted = true;
		own[s].stage = HELD;
		board[s] = true
	}
#ifndef GRANTED_BEFORE_LISTED
	answer(s, HELD, GRANTED, true)
#endif
}

inline send(s) /* on_started(): the first byte goes out */
{
	atomic {
		must(!was_sent[s] || IDEMPOTENT, a_call_is_sent_twice);
		must(client[s].body == own[s].generation,
			a_body_is_not_as_submitted);
		was_sent[s] = true;
		own[s].stage = SENT
	}
}

/* load(), issue(): {g, ISSUED} before the first byte */
inline issue(s)
{
#ifndef ISSUED_AFTER_SENDING
	atomic {
		own[s].stage = CALLING;
		publish(s, ISSUED)
	}
#else
	send(s);
	atomic { publish(s, ISSUED) }
#endif
}

/* is_retried(): the provider has answered, or it was never sent */
inline retry(s)
{
	atomic {
		was_sent[s] = false;
		own[s].stage = QUEUED;
		publish(s, ACCEPTED)
	}
}

/* ------------------------------------------------------------ recovery */

inline restore_permit(s) /* ghost_take(): known from the board, or not */
{
	atomic {
		own[s].is_ghost = false;
		own[s].is_counted = true;
		own[s].stage = HELD;
		board[s] = true
	}
}

/* on_submitted() of what a predecessor had accepted */
inline submit_recovered(s)
{
	if
	:: own[s].state == ISSUED && !IDEMPOTENT ->
		complete(s, false) /* ambiguous */
	:: own[s].state == ACCEPTED || (own[s].state == ISSUED && IDEMPOTENT) ->
		own[s].stage = INTAKE
	fi
}

/* on_overtaken(): given back while nobody listened */
inline tell_overtaken(s)
{
	atomic {
		own[s].is_ghost = false;
		board[s] = false
	}
}

inline recover_slot(s) /* and resume() */
{
	atomic {
		own[s].generation = daemon[s].generation;
		own[s].state = daemon[s].state;
		load_word(s);
#ifndef NO_GENERATIONS
		if
		:: is_wrong(s) -> expel()
		:: else
		fi
#endif
	}
	if
	:: distance != 0 ->
		if
		:: own[s].state == GRANTED -> tell_overtaken(s)
		:: else
		fi;
		accept_new(s)
	:: distance == 0 && own[s].state == GRANTED &&
			(command == CANCEL || command == SETTLE) ->
#ifndef RECOVERY_REWRITES_GRANT
		tell_overtaken(s);
		atomic { publish(s, DONE) } /* door_release() */
#else
		complete(s, false)
#endif
	:: distance == 0 && own[s].state == GRANTED && command == SUBMIT ->
		restore_permit(s)
	:: distance == 0 &&
			(own[s].state == ACCEPTED || own[s].state == ISSUED) ->
		if
		:: command == CANCEL -> complete(s, false)
		:: command == SUBMIT -> submit_recovered(s)
		fi
	:: distance == 0 && own[s].state == DONE
	fi
}

inline forget_ring()
{
	for (i : 0 .. BOUND - 1) {
		ring[i].slot = 0;
		ring[i].generation = 0;
		ring[i].command = NONE
	}
	i = 0;
	waiting = 0
}

/* on_reattach(): head := tail, then the slots; then ghosts_end_returned() */
inline recover()
{
#ifndef SCAN_BEFORE_TAIL
	atomic { forget_ring() }
#endif
	at = 0;
	do
	:: at < SLOTS ->
		recover_slot(at);
		at++
	:: else -> break
	od;
#ifdef SCAN_BEFORE_TAIL
	atomic { forget_ring() }
#endif
	atomic {
		for (i : 0 .. SLOTS - 1) {
			if
			:: own[i].is_ghost ->
				own[i].is_ghost = false;
				board[i] = false
			:: else
			fi
		}
		i = 0;
		at = 0;
		is_attached = true
	}
}

/* ------------------------------------------------------------ rgovd: the loop */

inline forget_words()
{
	hint_slot = 0;
	hint_generation = 0;
	hint_command = NONE;
	generation = 0;
	command = NONE;
	distance = 0;
	at = 0;
	i = 0
}

/* door_bury(), on_orphaned(), on_holder_death() */
inline bury()
{
	for (i : 0 .. SLOTS - 1) {
		own[i].stage = NOTHING;
#ifndef PERMIT_KEPT_AFTER_DEATH
		own[i].is_counted = false;
#endif
		own[i].is_ghost = false;
		board[i] = false;
	}
	i = 0;
	is_attached = false
}

/* What a successor starts with: restore_permits() */
inline start_anew()
{
	for (i : 0 .. SLOTS - 1) {
		own[i].generation = 0;
		own[i].state = DONE;
		own[i].stage = NOTHING;
		own[i].is_unwanted = false;
		own[i].is_counted = false;
		own[i].is_ghost = board[i]
	}
	is_attached = false;
	rgovd_dies = false
}

#define anything_in(s)                                                         \
	(own[s].stage != NOTHING || own[s].is_counted || own[s].is_ghost ||    \
		board[s])
/* A permit expires while its holder says nothing; whether it comes back when he
 * does must not hang on its expiry. */
#define can_advance(s)                                                         \
	(is_attached && own[s].stage != NOTHING &&                             \
		(own[s].stage != HELD || client[s].command == SUBMIT))

/* What may come next for a request that rgovd has. */
inline advance(s)
{
	if
	:: own[s].stage == INTAKE -> take_body(s)
	:: own[s].stage == QUEUED ->
		if
		:: client[s].kind == PERMIT -> grant(s)
		:: client[s].kind == CALL -> issue(s)
		:: complete(s, false) /* its deadline */
		fi
	:: own[s].stage == CALLING ->
		if
		:: send(s)
		:: retry(s)
		:: complete(s, false) /* never reached the provider */
		fi
	:: own[s].stage == SENT ->
		if
		:: complete(s, true)
		:: retry(s)
		:: complete(s, false)
		fi
	:: own[s].stage == HELD -> /* on_expiry() */
		has_expired[s] = true;
		finish_permit(s)
	fi
}

proctype rgovd()
{
	byte hint_slot, hint_generation, generation, distance, at, i;
	mtype:command hint_command = NONE, command = NONE;

	{
idle:
end:
		do
		:: client_died && is_attached -> atomic { bury() }
		:: client_died && !is_attached &&
				(board[0] || board[SLOTS - 1]) ->
			atomic { bury() } /* the holder of a ghost */
		:: !is_attached && !client_died -> recover(); forget_words()
		:: is_attached && waiting > 0 -> take_entry(); forget_words()
		:: can_advance(0) -> advance(0)
#if SLOTS > 1
		:: can_advance(1) -> advance(1)
#endif
		od
	} unless {
		rgovd_dies ->
		atomic {
			forget_words();
			start_anew()
		}
		goto idle
	}
}

/* ------------------------------------------------------------ fate, judge */

proctype fate()
{
	byte deaths;

	do
	:: atomic {
		!rgovd_dies && (DEATHS == 0 || deaths < DEATHS) ->
		rgovd_dies = true;
		if
		:: DEATHS > 0 -> deaths++
		:: else
		fi
	}
	:: atomic { CLIENT_DEATH && !client_died -> client_died = true }
	:: atomic { !is_closing -> is_closing = true }
	:: is_closing -> break
	od
}

#define is_honoured(s)                                                         \
	(!is_held[s] || client_died || has_expired[s] || rgovd_dies ||         \
		(board[s] && (own[s].is_counted || own[s].is_ghost)))

proctype watch()
{
end:
	atomic {
		!is_honoured(0) || !is_honoured(SLOTS - 1) ->
		must(false, a_held_permit_is_not_counted)
	}
}

/* When nothing can move any more. */
proctype judge()
{
	atomic {
		timeout ->
		must(users == 0, somebody_waits_for_ever);
		must(!anything_in(0) && !anything_in(SLOTS - 1),
			something_is_leaked)
	}
}

init
{
	byte s;

	atomic {
		for (s : 0 .. SLOTS - 1) {
			client[s].command = NONE;
			client[s].kind = CALL;
			daemon[s].state = DONE;
			own[s].state = DONE;
			own[s].stage = NOTHING;
			users++;
			run user_of(s)
		}
		for (s : 0 .. BOUND - 1) {
			ring[s].command = NONE
		}
		s = 0;
		is_attached = true;
		run rgovd();
		run fate();
		run watch();
		run judge()
	}
}
