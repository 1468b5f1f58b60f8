#!/usr/bin/python3
"""rgovd's signer against botocore's, byte for byte, on random requests.

SEED=… replays a run, N=… changes the number of requests.
"""
import datetime
import json
import os
import random
import subprocess
import sys
from unittest import mock

BUILD = os.environ.get("BUILD", "build")
SIGNER = os.path.join(BUILD, "tests", "sigv4_vectors")
SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
COUNT = int(os.environ.get("N", "500"))
UNRESERVED = "abcXYZ019-._~"
PATH_CHARS = UNRESERVED + " :@!$&'()*+,;=|^\"<>[]{}\u00e9\u6f22\U0001f600"
TEXT = UNRESERVED + " \t:@!$&'()*+,;=|^\"<>[]{}\\%/?#"


def text(rnd, chars, low, high):
    return "".join(rnd.choice(chars) for _ in range(rnd.randint(low, high)))


def segment(rnd):
    kind = rnd.random()
    if kind < 0.15:
        return rnd.choice([".", "..", "", "%2E%2e", "%"])
    if kind < 0.5:
        return "us.anthropic.claude-%d%%3A%%2f%s" % (
            rnd.randrange(9), text(rnd, UNRESERVED, 0, 9))
    return text(rnd, PATH_CHARS, 1, 12)


def path(rnd):
    return "/" + "/".join(segment(rnd) for _ in range(rnd.randint(0, 6)))


def encoded(rnd):
    """Already in canonical form: botocore leaves a query as it is."""
    return "".join(
        rnd.choice(UNRESERVED) if rnd.random() < 0.8
        else "%%%02X" % rnd.choice(b" +&=/%?\x00\xc3")
        for _ in range(rnd.randint(1, 8)))


def query(rnd):
    pairs = [encoded(rnd) + "=" + rnd.choice(["", encoded(rnd)])
             for _ in range(rnd.choice([0, 0, 1, 2, 9, 40]))]
    return "?" + "&".join(pairs) if pairs else ""


def headers(rnd):
    found = [["Content-Type", "application/json"]]
    for _ in range(rnd.randint(0, 12)):
        name = rnd.choice(["X-Amzn-Bedrock-Trace", "Accept", "accept",
                           "User-Agent", "Expect", "X-Amzn-Trace-Id",
                           "X-" + text(rnd, "abAB09-_", 1, 9)])
        found.append([name, text(rnd, TEXT, 0, 40)])
    return found


def request(rnd):
    return {
        "method": rnd.choice(["GET", "POST", "PUT"]),
        "host": rnd.choice(["bedrock-runtime.us-east-1.amazonaws.com",
                            "localhost:8790"]),
        "target": path(rnd) + query(rnd),
        "headers": headers(rnd),
        "body": text(rnd, PATH_CHARS, 0, 200),
        "access_key_id": "AKID" + text(rnd, "ABC012", 12, 12),
        "secret_access_key": text(rnd, UNRESERVED + "/+", 1, 40),
        "token": rnd.choice(["", text(rnd, UNRESERVED + "/+=", 1, 2000)]),
        "region": rnd.choice(["us-east-1", "eu-central-1", "cn-north-1"]),
        "service": rnd.choice(["bedrock", "sts"]),
        "unix_s": rnd.randrange(1 << 32),
    }


def sign_by_botocore(auth, awsrequest, credentials, req):
    signed = awsrequest.AWSRequest(
        method=req["method"], url="https://" + req["host"] + req["target"],
        data=req["body"].encode())
    for name, value in req["headers"]:
        signed.headers.add_header(name, value)
    keys = credentials.Credentials(
        req["access_key_id"], req["secret_access_key"], req["token"] or None)
    now = datetime.datetime.fromtimestamp(
        req["unix_s"], datetime.timezone.utc).replace(tzinfo=None)
    signer = auth.SigV4Auth(keys, req["service"], req["region"])
    with mock.patch.object(auth, "datetime") as clock:
        clock.datetime.utcnow.return_value = now
        signer.add_auth(signed)
    return signed.headers["X-Amz-Date"] + " " + signed.headers["Authorization"]


def sign_by_us(requests):
    lines = []
    for req in requests:
        ours = dict(req, headers=[["Host", req["host"]]] + req["headers"])
        lines.append(json.dumps(ours) + "\n")
    done = subprocess.run([SIGNER, "--sign"], input="".join(lines), text=True,
                          stdout=subprocess.PIPE, check=True, timeout=60)
    return done.stdout.splitlines()


def main():
    try:
        from botocore import auth, awsrequest, credentials
    except ImportError as reason:
        print("skip botocore # %s" % reason)
        print("0 passed, 0 failed, 1 skipped")
        return 0
    rnd = random.Random(SEED)
    requests = [request(rnd) for _ in range(COUNT)]
    ours = sign_by_us(requests)
    failed = 0
    for i, req in enumerate(requests):
        theirs = sign_by_botocore(auth, awsrequest, credentials, req)
        if i >= len(ours) or ours[i] != theirs:
            failed += 1
            print("FAIL request %d of SEED=%d" % (i, SEED))
            print("     %s\n     ours   %s\n     theirs %s" % (
                json.dumps(req), ours[i] if i < len(ours) else "-", theirs))
    if failed == 0:
        print("ok %d requests signed as botocore does # SEED=%d" % (
            COUNT, SEED))
    print("%d passed, %d failed, 0 skipped" % (COUNT - failed, failed))
    return failed != 0


if __name__ == "__main__":
    sys.exit(main())
