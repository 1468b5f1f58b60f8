#!/bin/sh
# Sequentially consistent order is spelled in one header alone: sleep and wake.
set -eu
cd "$(dirname "$0")/../.."

found=$(grep -rn --include='*.[ch]' \
	-e memory_order_seq_cst -e __ATOMIC_SEQ_CST -e atomic_thread_fence \
	shm-layout client-lib coordinator tools |
	grep -v '^shm-layout/shm_wake\.h:' || true)
if [ -n "$found" ]; then
	echo "$found" | sed 's|^|FAIL outside shm-layout/shm_wake.h: |'
	echo "0 passed, 1 failed, 0 skipped"
	exit 1
fi
echo "1 passed, 0 failed, 0 skipped"
