#!/bin/sh
# Who may include whom, and which foreign library lives in which folder: section
# 2 of the design as a table.  Judges every .c and .h outside tests and bench.
set -eu
cd "$(dirname "$0")/../.."

# shellcheck disable=SC2046 # our file names hold no blanks
awk '
function allow(folder, headers) { own[folder] = headers }
function lives(header, folders) { home[header] = folders }
BEGIN {
	# The longest folder that fits the file decides.
	allow("shm-layout", "shm-layout/")
	allow("client-lib", "client-lib/ shm-layout/")
	allow("client-lib/python", "client-lib/rgov.h client-lib/python/")
	allow("coordinator", "coordinator/ shm-layout/")
	allow("coordinator/policy", "coordinator/policy/")
	allow("coordinator/loop", "coordinator/loop/")
	allow("coordinator/door",
		"coordinator/door/ coordinator/loop/ coordinator/log.h shm-layout/")
	allow("coordinator/cluster",
		"coordinator/cluster/ coordinator/loop/ coordinator/log.h coordinator/policy/lease.h")
	allow("coordinator/upstream",
		"coordinator/upstream/ coordinator/loop/ coordinator/log.h")
	allow("coordinator/store",
		"coordinator/store/ coordinator/loop/ shm-layout/shm_atomic.h")
	allow("tools", "client-lib/rgov.h shm-layout/ tools/board-view/ tools/command-line/")

	allow("tools/rgov-plan",
		"coordinator/policy/ coordinator/config.h tools/command-line/")

	# sha256 of a body is taken where the body is read: in door, too.
	lives("openssl/", "coordinator/upstream/ coordinator/cluster/ coordinator/door/ tools/bedrock-sim/")
	lives("curl/", "coordinator/upstream/")
	lives("jsmn.h", "coordinator/upstream/")
	lives("liburing", "coordinator/loop/")
	lives("confuse.h", "coordinator/config tools/rgov-plan/scenario.c")
	lives("microhttpd.h", "tools/bedrock-sim/")
	lives("ncurses", "tools/rgov-top/")
	lives("curses.h", "tools/rgov-top/")
	lives("jansson.h", "tools/")
	lives("Python.h", "client-lib/python/")
	lives("ut", "coordinator/ tools/") # uthash, utlist
	lives("sqlite3.h", "coordinator/store/")
	lives("hiredis", "coordinator/cluster/")
	lives("CUnit/", "tests/")
}
function begins_with_one_of(text, list,    n, i, part) {
	n = split(list, part, " ")
	for (i = 1; i <= n; i++)
		if (index(text, part[i]) == 1)
			return 1
	return 0
}
function complain(why) {
	printf "FAIL %s:%d: %s\n", FILENAME, FNR, why
	bad[FILENAME] = 1
}
FNR == 1 {
	files++
	folder = FILENAME
	while (!(folder in own) && sub(/\/[^\/]*$/, "", folder))
		continue
	home_folder = FILENAME
	sub(/\/[^\/]*$/, "/", home_folder)
}
/^[ \t]*#[ \t]*include[ \t]*"/ {
	split($0, quoted, "\"")
	header = quoted[2]
	if (header !~ /\//)
		header = home_folder header
	if (header ~ /\.\./)
		complain("\"" header "\": includes are written from the top")
	else if (index(header, home_folder) != 1 &&
		!begins_with_one_of(header, own[folder]))
		complain(folder " may not include \"" header "\"")
}
/^[ \t]*#[ \t]*include[ \t]*</ {
	header = $0
	sub(/^[^<]*</, "", header)
	sub(/>.*/, "", header)
	for (library in home)
		if (index(header, library) == 1 && header !~ /^utime\.h|^utmp/ &&
			!begins_with_one_of(FILENAME, home[library]))
			complain("<" header "> lives in " home[library] " only")
}
END {
	for (f in bad)
		failed++
	printf "%d passed, %d failed, 0 skipped\n", files - failed, failed
	exit failed > 0
}
' $(find shm-layout client-lib coordinator tools -name '*.[ch]' | sort)
