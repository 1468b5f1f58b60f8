"""The deliberate breaks of the code, each with the test that must notice.

`suite` is a program of tests/unit, a script of tests/check, tests/scenario or
tests/fault; `test` is the one of its tests that must fail.  A break that can only
show as a wait without an end may hang.
"""

import dataclasses


@dataclasses.dataclass
class Mutant:
    name: str
    suite: str
    test: str
    edits: list  # (file, old text, new text)
    may_hang: bool = False


RING = "coordinator/door/ring.c"
ANSWER = "coordinator/door/answer.c"
WAKE = "shm-layout/shm_wake.h"
ATTEMPT = "coordinator/attempt.c"

MUTANTS = [
    # ------------------------------------------------ generations and hints
    Mutant("any generation is the next one", "unit/door_hostile_test",
           "a_word_that_may_not_follow",
           [(RING, "	if (ahead > 1)\n", "	if (ahead > 1 && command > SHM_ACK)\n")]),
    Mutant("generations are not compared", "unit/door_recover_test",
           "all_slots_at_once",
           [(RING, "	if (shm_generation(word) != slot->generation)\n"
             "		accept_new(slot, word);\n	else\n",
             "	if (shm_low(word) == SHM_SUBMIT)\n"
             "		accept_new(slot, word);\n	else\n")]),
    Mutant("a stale entry is taken for an attack", "unit/door_recover_test",
           "all_slots_at_once",
           [(RING, "		slot->session->door->stats.stale_entries++;",
             '		door_expel(slot->session, "a stale entry");')]),
    Mutant("a late acknowledgement is forgotten", "unit/door_hostile_test",
           "a_late_acknowledgement_frees_the_pages",
           [(RING, "	if (shm_low(hint) == SHM_ACK &&",
             "	if (shm_low(hint) == SHM_SETTLE &&")]),
    Mutant("a cancel is ignored", "unit/channel_test", "cancel_in_each_state",
           [(RING, "	if (command == SHM_CANCEL)\n		cancel(slot);\n	else if (",
             "	if (command == SHM_CANCEL)\n		;\n	else if (")],
           may_hang=True),
    Mutant("a ring of four entries a slot", "unit/layout_test",
           "client_files_of_every_size",
           [("shm-layout/shm_limits.h", "		8, /* see", "		4, /* see")]),
    # ------------------------------------------------ recovery
    Mutant("recovery scans before it takes the tail",
           "unit/door_recover_test", "what_comes_during_the_scan_is_found",
           [(RING, "	session->head = load_acquire(session->client->tail);\n"
             "	for", "	for"),
            (RING, "		return rc;\n	}\n	return 0;\n}",
             "		return rc;\n	}\n"
             "	session->head = load_acquire(session->client->tail);\n"
             "	return 0;\n}")]),
    Mutant("recovery answers a returned permit anew",
           "unit/door_recover_test", "every_row_of_the_table",
           [(RING, "	if (slot->state == SHM_GRANTED && command != SHM_SUBMIT) {",
             "	if (slot->state == SHM_GRANTED && command == SHM_SETTLE) {")]),
    Mutant("recovery wakes nobody", "unit/door_recover_test",
           "a_missing_wake_up_is_made_good",
           [(RING, "		answer_wake(slot);", "		;")]),
    Mutant("the epoch does not grow", "unit/door_recover_test",
           "every_row_of_the_table",
           [("coordinator/door/listener.c",
             "load_relaxed(session->daemon->epoch) + 1;",
             "load_relaxed(session->daemon->epoch);")]),
    Mutant("a successor does not seal", "unit/door_recover_test",
           "an_unsealed_file_is_sealed",
           [("coordinator/door/session.c",
             "	if (fcntl(client_control, F_ADD_SEALS,\n"
             "		    F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)",
             "	if (fcntl(client_control, F_ADD_SEALS, 0) != 0)")]),
    Mutant("a new session is not sealed", "unit/door_recover_test",
           "a_served_file_is_sealed",
           [("coordinator/door/session.c",
             "	if (fcntl(session->client_control_fd, F_ADD_SEALS,\n"
             "		    F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)",
             "	if (fcntl(session->client_control_fd, F_ADD_SEALS, 0) != 0)")]),
    Mutant("what may not be sent twice is",
           "scenario/21-rgovd-killed",
           "what_may_not_be_sent_twice_is_not",
           [("coordinator/arrival.c",
             "		request->was_issued = true;\n"
             "		if (!request->is_idempotent) {",
             "		request->was_issued = true;\n"
             "		if (request->body_bytes == 0) {")]),
    Mutant("ISSUED is stored when the answer is there",
           "scenario/21-rgovd-killed",
           "what_may_not_be_sent_twice_is_not",
           [(ATTEMPT, "	door_mark_issued(request->slot);\n	rc =", "	rc ="),
            (ATTEMPT, "	request->attempt = NULL;\n	governor->calls_out--;",
             "	request->attempt = NULL;\n	governor->calls_out--;\n"
             "	if (request->slot != NULL)\n"
             "		door_mark_issued(request->slot);")]),
    Mutant("a start is recorded when the answer is there",
           "scenario/26-limits-survive",
           "what_was_spent_a_moment_ago_is_spent",
           [(ATTEMPT, "	attempt->start_position = "
             "show_start(request, loop_now_ns());\n", ""),
            (ATTEMPT, "	request->attempt = NULL;\n	governor->calls_out--;",
             "	request->attempt = NULL;\n	governor->calls_out--;\n"
             "	(void)show_start(request, loop_now_ns());")]),
    # ------------------------------------------------ answers
    Mutant("DONE before the reply", "unit/channel_test",
           "bodies_come_back_as_they_were",
           [(ANSWER, "	size_t body_bytes = reply->body_bytes;\n\n",
             "	size_t body_bytes = reply->body_bytes;\n\n"
             "	publish(slot, state);\n"),
            (ANSWER, "	write_reply(slot, reply, result, body_bytes, message);\n"
             "	publish(slot, state);\n",
             "	write_reply(slot, reply, result, body_bytes, message);\n")]),
    Mutant("a wake-up within the process alone", "unit/channel_test",
           "one_waiter_gives_up_the_other_is_woken",
           [(ANSWER, "FUTEX_WAKE, INT_MAX", "FUTEX_WAKE_PRIVATE, INT_MAX")]),
    Mutant("no bell at the end", "unit/channel_test",
           "a_bell_rings_where_asked_for",
           [(ANSWER, "	if ((slot->flags & SHM_BELL) == 0)\n",
             "	if ((slot->flags & SHM_BELL) != 0)\n")], may_hang=True),
    # ------------------------------------------------ the client
    Mutant("the client never rings", "unit/channel_test",
           "bodies_come_back_as_they_were",
           [("client-lib/submit.c",
             "		return false;\n	submit_ring(gov, session);",
             "		return false;\n	(void)gov;")], may_hang=True),
    Mutant("the tail before the ring entry", "unit/channel_test",
           "a_submit_stores_in_order",
           [("client-lib/session.c",
             "	store_relaxed(session->ring[session->tail & mask],\n"
             "		SHM_RING_ENTRY(slot, word));\n	session->tail++;\n"
             "	return wake_publish_tail(\n"
             "		session->client, session->daemon, session->tail);",
             "	session->tail++;\n"
             "	bool must_ring = wake_publish_tail(\n"
             "		session->client, session->daemon, session->tail);\n"
             "	store_relaxed(session->ring[(session->tail - 1) & mask],\n"
             "		SHM_RING_ENTRY(slot, word));\n	return must_ring;")]),
    Mutant("a cancelled slot is used before its DONE", "unit/channel_test",
           "abandoned_slots_come_back",
           [("client-lib/rgov.c",
             "		session->slots[ticket->slot].use = SLOT_ABANDONED;\n"
             "		session->n_abandoned++;",
             "		session_release_slot(session, ticket->slot);")],
           may_hang=True),
    Mutant("one sleeper takes all off", "unit/channel_test",
           "one_waiter_gives_up_the_other_is_woken",
           [(WAKE, "	(void)atomic_fetch_sub_explicit(\n"
             "		&client->waiting, 1, memory_order_relaxed);",
             "	store_relaxed(client->waiting, 0);")]),
    # ------------------------------------------------ the four barriers
    Mutant("the client rings without a fence", "check/full_barrier",
           "wake_publish_tail",
           [(WAKE, "	atomic_store_explicit(&client->tail, tail, "
             "memory_order_seq_cst);",
             "	store_release(client->tail, tail);")]),
    Mutant("rgovd sleeps without a fence", "check/full_barrier",
           "wake_stop_polling",
           [(WAKE, "	atomic_store_explicit(&daemon->polling, 0, "
             "memory_order_seq_cst);",
             "	store_release(daemon->polling, 0);")]),
    Mutant("the client sleeps without a fence", "check/full_barrier",
           "wake_announce_sleep",
           [(WAKE, "	(void)atomic_fetch_add_explicit(\n"
             "		&client->waiting, 1, memory_order_seq_cst);",
             "	store_release(client->waiting, "
             "load_relaxed(client->waiting) + 1);")]),
    Mutant("rgovd answers without a fence", "check/full_barrier",
           "wake_publish_word",
           [(WAKE, "	atomic_store_explicit(&daemon->word, word, "
             "memory_order_seq_cst);",
             "	store_release(daemon->word, word);")]),
    # ------------------------------------------------ what must come back
    Mutant("a dead client keeps its permit",
           "scenario/22-permits-survive",
           "a_permit_ends_with_its_holder",
           [("coordinator/arrival.c",
             "		permit_finish(request, POLICY_LOST, NULL);\n"
             "	} else if (request->stage == REQUEST_CALLING &&",
             "		return;\n"
             "	} else if (request->stage == REQUEST_CALLING &&")]),
    Mutant("a reservation is not given back", "unit/policy_tokens",
           "settles_both_ways",
           [("coordinator/policy/tokens.c", "	add(tokens, back);\n", "")]),
    Mutant("a body is not looked at again",
           "scenario/25-accounting",
           "a_body_that_changed_is_not_sent",
           [(ATTEMPT, "	else if (job->result.error != 0 ||\n",
             "	else if (job->result.error != 0 && \n")]),
    # ------------------------------------------------ the policy
    *[Mutant(f"policy: {name}", "unit/policy_properties",
             "it_decides_as_the_reference",
             [(f"coordinator/policy/{file}.c", old, new)])
      for name, file, old, new in (
          ("a window lets one more in", "window",
           "	if (limit == 0 || starts < limit)\n",
           "	if (limit == 0 || starts <= limit)\n"),
          ("a window ends a nanosecond early", "window",
           "*stamp_at(window, 0) + window->span_ns <= now_ns)",
           "*stamp_at(window, 0) + window->span_ns <= now_ns + 1)"),
          ("what is admitted and not yet sent is no start", "window",
           "	starts = (uint64_t)window->count + window->pending;\n"
           "	if (limit == 0", "	starts = window->count;\n"
           "	if (limit == 0"),
          ("smooth starts are not apart", "window",
           "	if (window->pending > 0)\n		return UINT64_MAX;\n",
           ""),
          ("a lane's tokens are not asked", "admit",
           "	*ret_wait_ns = tokens_wait(&lane->tokens, amount, now_ns);\n",
           "	*ret_wait_ns = amount * 0;\n"),
          ("the host's tokens are not asked", "admit",
           "	if (!host_has_tokens(policy, request, now_ns, ret_next_ns))",
           "	if (!host_has_tokens(policy, request, now_ns, ret_next_ns) &&"
           " false)"),
          ("a user's budget is not asked", "order",
           "	if (budget == NULL)\n		return POLICY_WAIT_TURN;\n",
           "	if (budget == NULL || flow->first != NULL)\n"
           "		return POLICY_WAIT_TURN;\n"),
          ("batch has one place more", "settings",
           "	return limit < 1 ? 1 : (uint32_t)limit;",
           "	return limit < 1 ? 1 : (uint32_t)limit + 1;"),
          ("a lane keeps its turn", "admit",
           "	lane->served = ++policy->turns;\n", ""),
          ("who was idle is not lifted", "order",
           "		if (flow->place == 0 && flow->service < floor)\n"
           "			flow->service = floor;\n", ""),
          ("an application that was idle is not lifted", "order",
           "		if (tier->place == 0 && tier->service < floor)\n"
           "			tier->service = floor;\n", ""),
          ("weights of users are ignored", "order",
           "tokens / seat->user->weight;", "tokens;"),
          ("weights of applications are ignored", "order",
           "tokens / team->app->weight;", "tokens;"),
          ("what is aged goes to the head", "admit",
           "		order_enter(request, false);\n",
           "		order_enter(request, true);\n"),
          ("nobody ages", "admit",
           "	uint64_t after_ns = policy->settings->config.age_after_ns;\n",
           "	uint64_t after_ns = 0;\n"),
          ("a retry waits at the tail", "place",
           "		queue(policy, request, true);\n",
           "		queue(policy, request, false);\n"),
          ("the gate lets two probes pass", "gate",
           "	if (gate->probe != NULL)\n"
           "		return proven_ns(gate, ok_after_ns);\n", ""),
          ("a late throttle closes the gate again", "gate",
           "	return request->p.epoch == gate->epoch;",
           "	return request->p.epoch <= gate->epoch;"),
          ("a settlement of yesterday's counts today", "tokens",
           "	if (day == tokens->day || back < 0)\n", ""),
          ("days turn at midnight of the wrong clock", "tokens",
           "	return (at_ns + tokens->day_offset_ns) / TOKENS_DAY_NS;",
           "	return at_ns / TOKENS_DAY_NS;"),
          ("a full bucket takes in more", "tokens",
           "	tokens->level = (int64_t)tokens->limit;\n"
           "	tokens->part = 0;\n}", "	tokens->part = 0;\n}"),
          ("a refused one stays counted", "policy",
           "		request->user_entry->refused++;\n",
           "		request->user_entry->refused++;\n"
           "		request->user_entry->admitted++;\n"),
          ("a failure behind a closed gate counts", "retry",
           "				 (!was_closed || is_probe));",
           "				 (!was_closed || is_probe || true));"),
          ("a success refunds too much", "retry",
           "request->p.retry_cost ? request->p.retry_cost : 1;",
           "request->p.retry_cost ? request->p.retry_cost : 2;"),
          ("a refused rate climbs at once", "rate",
           "	rate->from_ns = now_ns + patience * rate->minute_ns;",
           "	rate->from_ns = now_ns;"),
          ("an adapted rate is not paced", "adapt",
           "	if (now_ns < adapt->paced_ns)\n"
           "		return adapt->paced_ns;\n", ""),
          ("a late settlement gives nothing back", "overdue",
           "	tokens_correct(&policy->tokens, was, used, day, now_ns);\n",
           ""),
          ("what was learned is not used", "lane",
           "		output = output < most ? output : most;\n", ""),
      )],
    Mutant("fairness: nobody ages", "unit/policy_fairness", "nobody_starves",
           [("coordinator/policy/admit.c",
             "	uint64_t after_ns = policy->settings->config.age_after_ns;\n",
             "	uint64_t after_ns = 0;\n")]),
    Mutant("fairness: users are not charged", "unit/policy_fairness",
           "the_backlogged_are_served_alike",
           [("coordinator/policy/order.c",
             "	seat->flows[class].service += tokens / seat->user->weight;\n",
             "")]),
    Mutant("fairness: an excess is not charged", "unit/policy_fairness",
           "the_backlogged_are_served_alike",
           [("coordinator/policy/order.c",
             "	charge(seat, request->p.rank,\n"
             "		(double)cost - (double)request->p.charged);\n", "")]),
    # ------------------------------------------------ one quota, several hosts
    Mutant("lease: nothing is kept for a silent host", "unit/cluster_lease",
           "a_good_bye_frees_at_once",
           [("coordinator/cluster/lease.lua",
             "	return math.max(n, is_away(member) and share or record.keep)",
             "	return n")]),
    Mutant("lease: what is held does not count", "unit/cluster_lease",
           "nobody_exceeds_the_quota",
           [("coordinator/cluster/lease.lua",
             "	if now < record.til + slack + window then\n"
             "		n = n + record.held\n	end\n", "")]),
    Mutant("lease: the whole share at once after a loss", "unit/cluster_lease",
           "nobody_exceeds_the_quota",
           [("coordinator/policy/lease.c",
             "	if (now_ns < share->grows_ns && lease->keep < bound)",
             "	if (false)")]),
    Mutant("lease: a birth is not awaited", "unit/cluster_lease",
           "nobody_exceeds_the_quota",
           [("coordinator/cluster/lease.lua",
             "local is_open = (hosts > 0 and complete >= hosts) or\n",
             "local is_open = true or\n")]),
    Mutant("lease: a silent host's tokens stay in the bucket",
           "unit/cluster_lease", "nobody_exceeds_the_quota",
           [("coordinator/cluster/lease.lua",
             "				bucket.level = bucket.level - record.taken\n",
             "")]),
    Mutant("lease: starts leave the window early", "unit/cluster_lease",
           "all_busy_share_equally",
           [("coordinator/cluster/lease.lua", "		if leaves > now then\n"
             "			n = n + starts\n",
             "		if leaves > now + window / 8 then\n"
             "			n = n + starts\n")]),
    # ------------------------------------------------ durable tasks
    Mutant("tasks: acknowledged before the disk has it", "fault/81-task-disk",
           "a_slow_disk",
           [("coordinator/task_submit.c",
             "	governor->tasks->n_putting++;\n",
             "	governor->tasks->n_putting++;\n"
             "	struct daemon_task early = {0};\n"
             "	memcpy(early.id, put->record.id, sizeof(early.id));\n"
             "	struct door_reply reply = plain_reply(SHM_OK);\n"
             "	reply.task = &early;\n"
             "	door_complete(request->slot, &reply);\n"
             "	request->slot = NULL;\n")]),
    Mutant("tasks: an end is told before the disk has it",
           "fault/81-task-disk", "no_end_is_told_before_it_is_on_disk",
           [("coordinator/task_run.c",
             "	if (is_the_disk(job->error) && !tasks->governor->is_leaving) {",
             "	if (false) {")]),
    Mutant("tasks: what ran is forgotten at the next start",
           "fault/80-task-storm", "storm_over_tasks",
           [("coordinator/tasks.c",
             "	task_add(tasks, task, request, record, owner);\n"
             "	if (record",
             "	if (record->state == STORE_RUNNING)\n		return 0;\n"
             "	task_add(tasks, task, request, record, owner);\n"
             "	if (record")]),
    Mutant("tasks: one that may not be sent twice is sent again",
           "fault/80-task-storm", "storm_over_tasks",
           [("coordinator/tasks.c",
             "	if (!request->is_idempotent) {\n		task_note",
             "	if (false) {\n		task_note")]),
]
