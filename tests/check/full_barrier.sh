#!/bin/sh
# Between the store and the look of each function of shm_wake.h stands a full
# barrier in the machine's code.  Without it a wake-up is lost once in millions, so
# no test would notice; here the instruction is either there or not.
set -eu
cd "$(dirname "$0")/../.."

if [ "$(uname -m)" != x86_64 ]; then
	echo "skip full barriers # looks at x86-64 code alone"
	echo "0 passed, 0 failed, 1 skipped"
	exit 0
fi
tmp=$(mktemp -d "${TMPDIR:-/tmp}/rgov-barrier.XXXXXX")
trap 'rm -rf "$tmp"' EXIT
cat >"$tmp/wake.c" <<-'END'
	#include "shm-layout/shm_wake.h"
	bool publish_tail(struct client_header *c, struct daemon_header *d);
	bool publish_tail(struct client_header *c, struct daemon_header *d)
	{
		return wake_publish_tail(c, d, 7);
	}
	uint64_t stop_polling(struct daemon_header *d, struct client_header *c);
	uint64_t stop_polling(struct daemon_header *d, struct client_header *c)
	{
		return wake_stop_polling(d, c);
	}
	uint32_t announce_sleep(struct client_slot *c, struct daemon_slot *d);
	uint32_t announce_sleep(struct client_slot *c, struct daemon_slot *d)
	{
		return wake_announce_sleep(c, d);
	}
	bool publish_word(struct daemon_slot *d, struct client_slot *c);
	bool publish_word(struct daemon_slot *d, struct client_slot *c)
	{
		return wake_publish_word(d, c, 7);
	}
END
passed=0 failed=0 skipped=0
for compiler in gcc clang; do
	if ! command -v "$compiler" >/dev/null; then
		echo "skip full barriers of $compiler # it is not installed"
		skipped=$((skipped + 4))
		continue
	fi
	"$compiler" -std=gnu11 -D_GNU_SOURCE -O2 -I. -S "$tmp/wake.c" \
		-o "$tmp/wake.s"
	for name in publish_tail stop_polling announce_sleep publish_word; do
		if sed -n "/^$name:/,/\.size/p" "$tmp/wake.s" |
			grep -qE '(xchg|mfence|lock)'; then
			echo "ok $compiler: wake_$name"
			passed=$((passed + 1))
		else
			echo "FAIL $compiler: wake_$name has no full barrier"
			failed=$((failed + 1))
		fi
	done
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
