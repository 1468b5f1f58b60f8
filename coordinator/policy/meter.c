/* The meter: a ring of slots and their sum. */
#include "coordinator/policy/meter.h"

void meter_set(struct meter *meter, uint64_t window_ns)
{
	uint64_t slot_ns = window_ns / METER_PARTS;

	slot_ns = slot_ns > 0 ? slot_ns : 1;
	if (slot_ns != meter->slot_ns)
		*meter = (struct meter){.slot_ns = slot_ns};
}

static uint64_t *slot_at(struct meter *meter, uint64_t number)
{
	return &meter->slots[number % METER_SLOTS];
}

static void advance(struct meter *meter, uint64_t now_ns)
{
	uint64_t number = now_ns / meter->slot_ns;

	if (number >= meter->newest + METER_SLOTS)
		*meter = (struct meter){
			.slot_ns = meter->slot_ns, .newest = number};
	while (meter->newest < number) {
		uint64_t *slot = slot_at(meter, ++meter->newest);

		meter->sum -= *slot;
		*slot = 0;
	}
}

void meter_add(struct meter *meter, uint64_t amount, uint64_t now_ns)
{
	advance(meter, now_ns);
	*slot_at(meter, meter->newest) += amount;
	meter->sum += amount;
}

bool meter_counts(const struct meter *meter, uint64_t at_ns, uint64_t now_ns)
{
	return at_ns / meter->slot_ns + METER_SLOTS > now_ns / meter->slot_ns;
}

void meter_settle(struct meter *meter, uint64_t at_ns, uint64_t amount,
	uint64_t used, uint64_t now_ns)
{
	uint64_t number = at_ns / meter->slot_ns;
	uint64_t *slot = slot_at(meter, number);

	advance(meter, now_ns);
	if (number > meter->newest || number + METER_SLOTS <= meter->newest)
		return;
	/* Less is there where a reload has emptied the meter. */
	amount = amount < *slot ? amount : *slot;
	*slot += used - amount;
	meter->sum += used - amount;
}

uint64_t meter_used(struct meter *meter, uint64_t now_ns)
{
	advance(meter, now_ns);
	return meter->sum;
}

uint64_t meter_leaves(const struct meter *meter, uint32_t i)
{
	return (meter->newest + 1 + i) * meter->slot_ns;
}

/* The oldest slot is where the next one will be. */
uint64_t meter_left(const struct meter *meter, uint32_t i)
{
	return meter->slots[(meter->newest + 1 + i) % METER_SLOTS];
}
