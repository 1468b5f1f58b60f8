#!/bin/sh
# No note to self, and no path of one machine, in any file of the project.
set -eu
cd "$(dirname "$0")/../.."

passed=0 failed=0
# absent NAME PATTERN: no file but this one may contain it
absent()
{
	if grep -rnIE --exclude-dir=build --exclude-dir=.git --exclude-dir='*.egg-info' \
		--exclude-dir=__pycache__ --exclude=words.sh -e "$2" .; then
		echo "FAIL $1: see above"
		failed=$((failed + 1))
	else
		echo "ok $1"
		passed=$((passed + 1))
	fi
}
absent 'no note to self' '\b(TODO|FIXME|XXX|HACK)\b'
absent 'no path of one machine' '(^|[^A-Za-z0-9_.-])/(work|root|Users)/[a-z]|[.]pyenv'
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" -eq 0 ]
