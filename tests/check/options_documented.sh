#!/bin/sh
# Every setting of config.def stands, with its default, in rgov.conf(5) and in
# the sample; every option of options.def stands in rgovd(8).  And none stands
# there that is gone.
set -eu
cd "$(dirname "$0")/../.."

awk '
function judge(ok, what) {
	if (ok)
		passed++
	else {
		failed++
		print "FAIL " what
	}
}
# "a, b, \"c\"" without blanks and quotes: no field of ours holds a comma before
# its default does.
function fields(line,    n, i) {
	sub(/^[A-Z]+\(/, "", line)
	n = split(line, field, /, */)
	for (i = 1; i <= n; i++)
		gsub(/^"|"$/, "", field[i])
}
FILENAME ~ /config\.def$/ && /^(SETTING|RESTART)\(/ {
	fields($0)
	name = field[1] " " field[2]
	known[name] = 1
	text[name] = field[5]
}
FILENAME ~ /options\.def$/ && /^OPTION\(/ {
	fields($0)
	option[field[2]] = 1
}
FNR == 1 { scope = "FLAT" }
FILENAME ~ /\.5$/ && /^\.Ss / {
	scope = $2 == "Block:" ? toupper($3) : "FLAT"
}
FILENAME ~ /\.5$/ && /^\.It Ic / {
	in_manual[scope " " $3] = 1
	shown = $0
	sub(/^.*Pq Li /, "", shown)
	default_in_manual[scope " " $3] = shown
}
FILENAME ~ /\.conf$/ && /^#?(upstream|model|user|application|error) / {
	scope = toupper($1)
	sub(/^#/, "", scope)
}
FILENAME ~ /\.conf$/ && /^#?}/ { scope = "FLAT" }
# "#key = value" with a default, "# key = value" for an example.
FILENAME ~ /\.conf$/ && /^#[ \t]*[a-z_]+ = / {
	line = $0
	sub(/^#[ \t]*/, "", line)
	name = line
	sub(/ .*/, "", name)
	in_sample[scope " " name] = 1
	sub(/^[^=]*= /, "", line)
	gsub(/"/, "", line)
	default_in_sample[scope " " name] = line
}
FILENAME ~ /\.8$/ && /^\.It Fl/ {
	line = $0
	while (match(line, /Fl -[a-z][a-z-]*/)) {
		in_page[substr(line, RSTART + 4, RLENGTH - 4)] = 1
		line = substr(line, RSTART + RLENGTH)
	}
}
END {
	for (name in known) {
		judge(name in in_manual, name ": not in rgov.conf(5)")
		judge(name in in_sample, name ": not in the sample")
		# Lists are {} in the file and worked-out values are prose.
		if (text[name] == "NULL")
			continue
		wanted = text[name] == "" ? "{}" : text[name]
		judge(default_in_manual[name] == wanted, \
			name ": rgov.conf(5) has another default than " wanted)
		judge(default_in_sample[name] == wanted, \
			name ": the sample has another default than " wanted)
	}
	for (name in in_manual)
		judge(name in known, name ": rgov.conf(5) has it, rgovd not")
	for (name in in_sample)
		judge(name in known, name ": the sample has it, rgovd not")
	for (name in option)
		judge(name in in_page, "--" name ": not in rgovd(8)")
	for (name in in_page)
		judge(name in option, "--" name ": rgovd(8) has it, rgovd not")
	# A pattern that matches nothing must not pass for a manual without gaps.
	judge(length(known) > 50 && length(option) > 10, "the tables were not read")
	printf "%d passed, %d failed, 0 skipped\n", passed, failed
	exit failed > 0
}
' coordinator/config.def coordinator/options.def docs/man/rgov.conf.5 \
	packaging/rgovd.conf docs/man/rgovd.8
