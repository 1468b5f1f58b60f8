#!/bin/sh
# Building and testing leaves nothing outside build/: no file that git does not
# know.  Changed files are their author's, and fine.
set -eu
cd "$(dirname "$0")/../.."

if ! command -v git >/dev/null || ! git rev-parse --git-dir >/dev/null 2>&1; then
	echo "skip no file outside build/ # not a git checkout"
	echo "0 passed, 0 failed, 1 skipped"
	exit 0
fi
# What a build or a test makes; a new source file is no litter.
litter=$(git ls-files --others --exclude-standard |
	grep -E '\.(o|d|a|so|pyc|log|core|sock|json|jsonl|egg-info|tmp)(/|$)|(^|/)(__pycache__|core(\.[0-9]+)?|a\.out)(/|$)' || true)
if [ -n "$litter" ]; then
	echo "$litter" | sed 's|^|FAIL left behind: |'
	echo "0 passed, 1 failed, 0 skipped"
	exit 1
fi
echo "1 passed, 0 failed, 0 skipped"
