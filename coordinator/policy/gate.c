/* The gate. */
#include "coordinator/policy/gate.h"

#include "coordinator/policy/inside.h"

static void open_gate(struct gate *gate)
{
	gate->is_closed = false;
	gate->failures = 0;
	gate->probe = NULL;
}

/* When it has; UINT64_MAX while it is still connecting: nobody has judged it.
 */
static uint64_t proven_ns(const struct gate *gate, uint64_t ok_after_ns)
{
	if (!(gate->probe->p.flags & POLICY_STARTED))
		return UINT64_MAX;
	return gate->probe->p.started_ns + ok_after_ns;
}

void gate_look(struct gate *gate, uint64_t ok_after_ns, uint64_t now_ns)
{
	if (gate->is_closed && gate->probe != NULL &&
		proven_ns(gate, ok_after_ns) <= now_ns)
		open_gate(gate);
}

uint64_t gate_wait(struct gate *gate, uint64_t ok_after_ns, uint64_t now_ns)
{
	gate_look(gate, ok_after_ns, now_ns);
	if (!gate->is_closed)
		return 0;
	if (gate->probe != NULL)
		return proven_ns(gate, ok_after_ns);
	return gate->opens_ns <= now_ns ? 0 : gate->opens_ns;
}

void gate_pass(struct gate *gate, struct policy_request *request)
{
	request->p.epoch = gate->epoch;
	if (!gate->is_closed)
		return;
	gate->probe = request;
	gate->probes++;
}

bool gate_hears(const struct gate *gate, const struct policy_request *request)
{
	return request->p.epoch == gate->epoch;
}

void gate_close(struct gate *gate, uint64_t until_ns)
{
	gate->is_closed = true;
	gate->is_day = false;
	gate->failures++;
	gate->opens_ns = until_ns;
	gate->epoch++;
	gate->probe = NULL;
}

void gate_passed(
	struct gate *gate, const struct policy_request *request, bool is_proof)
{
	if (gate->probe != request)
		return;
	gate->probe = NULL;
	if (is_proof)
		open_gate(gate);
}
