/* The gate. */
#include "coordinator/policy/gate.h"

#include "coordinator/policy/inside.h"

static void open_gate(struct gate *gate)
{
	gate->is_closed = false;
	gate->failures = 0;
	gate->probe = NULL;
}

uint64_t gate_wait(struct gate *gate, uint64_t ok_after_ns, uint64_t now_ns)
{
	uint64_t proven_ns;

	if (!gate->is_closed)
		return 0;
	if (gate->probe == NULL)
		return gate->opens_ns <= now_ns ? 0 : gate->opens_ns;
	/* Still connecting: nobody has judged it yet. */
	if (!(gate->probe->p.flags & POLICY_STARTED))
		return UINT64_MAX;
	proven_ns = gate->probe->p.started_ns + ok_after_ns;
	if (proven_ns > now_ns)
		return proven_ns;
	open_gate(gate);
	return 0;
}

void gate_pass(struct gate *gate, struct policy_request *request)
{
	request->p.epoch = gate->epoch;
	if (gate->is_closed)
		gate->probe = request;
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
