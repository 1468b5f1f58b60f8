#!/usr/bin/python3
"""bedrock-sim judges everything else, so it is judged here first: by Debian's
botocore, by a signer written for this test, by raw sockets, and by counting
its own log again.

Environment: BUILD, PYTHON (see harness.py), RGOV_TESTDATA (default
../shared/testdata).
"""

import asyncio
import bisect
import datetime
import hashlib
import hmac
import http.client
import json
import os
import pathlib
import re
import signal
import socket
import ssl
import sys
import time
import urllib.parse

from harness import (ACCESS_KEY, BUILD, MODEL, REGION, ROOT, SECRET_KEY,
                     Process, Scratch, Sim, Skip, base_env, check, checks,
                     equal, http_request, in_parallel, run, wait_until)

TESTDATA = pathlib.Path(os.environ.get("RGOV_TESTDATA")
                        or ROOT / "../shared/testdata")
BOTOCORE_DATA = TESTDATA / "botocore-data"
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//token+with/signs=="
PROFILE_ARN = ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/"
               "us.anthropic.claude-sonnet-4-20250514-v1:0")
CLAUDE = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 256,
          "messages": [{"role": "user", "content": "What is a bucket?"}]}
CONVERSE = {"messages": [{"role": "user", "content": [{"text": "é?"}]}],
            "inferenceConfig": {"maxTokens": 256}}


# ---------------------------------------------------------------- helpers

def path_of(model=MODEL, op="invoke"):
    return f"/model/{urllib.parse.quote(model, safe='')}/{op}"


def invoke(sim, body=None, model=MODEL, headers=None, op="invoke"):
    """One call without a signature, on a connection of its own."""
    return http_request("POST", sim.url + path_of(model, op),
                        CLAUDE if body is None else body, headers)


def numbered(i):
    return dict(CLAUDE, metadata={"user_id": str(i)})


def error_type(answer):
    return (answer.headers.get("x-amzn-ErrorType") or "").split(":")[0]


def unsigned(*extra, **options):
    return Sim(auth="none", extra=extra, **options)


def with_header():
    return unsigned("--allow-fault-header")


def connect(sim):
    connection = socket.create_connection(("127.0.0.1", sim.ports["http"]), 30)
    return connection


def raw_request(body, extra=""):
    return (f"POST {path_of()} HTTP/1.1\r\nHost: localhost\r\n{extra}"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


def fault_on_the_wire(sim, fault):
    """All that comes until the connection ends."""
    with connect(sim) as wire:
        wire.sendall(raw_request(json.dumps(CLAUDE).encode(),
                                 f"x-sim-fault: {fault}\r\n"))
        return b"".join(iter(lambda: wire.recv(65536), b""))


def digest(body):
    return hashlib.sha256(body).hexdigest()


class Signer:
    """Signature Version 4, written from the description; every part can be
    spoilt by a keyword."""

    def __init__(self, **spoil):
        self.spoil = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY,
                      "region": REGION, "service": "bedrock", "skew_s": 0,
                      "terminator": "aws4_request", "day": None, "sent": {},
                      "unsigned": (), "signed_body": None, "token": None,
                      "algorithm": "AWS4-HMAC-SHA256", "query": "",
                      "finish": lambda headers: headers}
        self.spoil.update(spoil)

    def headers(self, host, path, body):
        o = self.spoil
        now = (datetime.datetime.now(datetime.timezone.utc)
               + datetime.timedelta(seconds=o["skew_s"]))
        date = now.strftime("%Y%m%dT%H%M%SZ")
        day = o["day"] or date[:8]
        sent = {"host": host, "x-amz-date": date,
                "content-type": "application/json"}
        if o["token"]:
            sent["x-amz-security-token"] = o["token"]
        sent.update(o["sent"])
        names = ";".join(sorted(n.lower() for n in sent
                                if n not in o["unsigned"]))
        lines = "".join(f"{n}:{' '.join(sent[n].split())}\n"
                        for n in names.split(";"))
        payload = digest(body if o["signed_body"] is None
                         else o["signed_body"])
        canonical = "\n".join(["POST", urllib.parse.quote(path, safe="/~"),
                               o["query"], lines, names, payload])
        scope = f"{day}/{o['region']}/{o['service']}/{o['terminator']}"
        text = "\n".join(["AWS4-HMAC-SHA256", date, scope,
                          digest(canonical.encode())])
        key = ("AWS4" + o["secret_key"]).encode()
        for part in (*scope.split("/"), text):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        sent["authorization"] = (
            f"{o['algorithm']} Credential={o['access_key']}/{scope}, "
            f"SignedHeaders={names}, Signature={key.hex()}")
        return o["finish"](sent)


def signed_call(sim, signer, path=None, body=None, target=None):
    """`target` goes on the wire instead of the path that was signed."""
    body = json.dumps(CLAUDE).encode() if body is None else body
    path = path or path_of()
    host = f"127.0.0.1:{sim.ports['http']}"
    return http_request("POST", sim.url + (target or path), body,
                        signer.headers(host, path, body))


def client_of(sim, secret=SECRET_KEY, token=None, url=None, verify=None):
    """A bedrock-runtime client of botocore that never retries."""
    if not BOTOCORE_DATA.is_dir():
        raise Skip("no botocore-data in the test data")
    os.environ.update(AWS_DATA_PATH=str(BOTOCORE_DATA),
                      AWS_EC2_METADATA_DISABLED="true")
    try:
        import boto3
        from botocore.config import Config
    except ImportError as e:
        raise Skip(f"no boto3: {e}") from None
    return boto3.session.Session().client(
        "bedrock-runtime", endpoint_url=url or sim.url, region_name=REGION,
        aws_access_key_id=ACCESS_KEY, aws_secret_access_key=secret,
        aws_session_token=token, verify=verify,
        config=Config(retries={"max_attempts": 0}))


# ---------------------------------------------------------------- answers

@checks.test
def an_invoke_is_answered_in_claudes_shape():
    "Status, headers and body are those of the service; the text names the body."
    body = json.dumps(CLAUDE).encode()
    with unsigned() as sim:
        answer = invoke(sim, body)
    reply = answer.json()
    equal(answer.status, 200, "status")
    equal(answer.headers["x-sim-body-sha256"], digest(body), "body's digest")
    check(digest(body) in reply["content"][0]["text"], "text names the body")
    for header, key in (("Input", "input_tokens"), ("Output", "output_tokens")):
        equal(int(answer.headers[f"X-Amzn-Bedrock-{header}-Token-Count"]),
              reply["usage"][key], f"{header} count in header and body")
    equal(reply["stop_reason"], "end_turn", "stop_reason")
    check(len(answer.headers["x-amzn-RequestId"]) == 36, "a request id")
    check(answer.headers["X-Amzn-Bedrock-Invocation-Latency"].isdigit(),
          "latency in ms")
    sent = datetime.datetime.strptime(answer.headers["Date"],
                                      "%a, %d %b %Y %H:%M:%S %Z")
    age = datetime.datetime.utcnow() - sent
    check(abs(age.total_seconds()) < 60, "Date is true")


@checks.test
def a_converse_is_answered_in_its_shape():
    "Usage is in the body, and no header has counts."
    with unsigned() as sim:
        answer = invoke(sim, CONVERSE, op="converse")
    reply = answer.json()
    equal(answer.status, 200, "status")
    usage = reply["usage"]
    equal(usage["totalTokens"], usage["inputTokens"] + usage["outputTokens"],
          "totalTokens")
    equal(reply["output"]["message"]["role"], "assistant", "role")
    check(answer.headers["X-Amzn-Bedrock-Input-Token-Count"] is None,
          "no counts in the headers")


@checks.test
def max_tokens_cuts_the_answer():
    "An answer has no more tokens than the request allows, and says that."
    with unsigned("--output-tokens", "50,60") as sim:
        reply = invoke(sim, dict(CLAUDE, max_tokens=7)).json()
    equal(reply["usage"]["output_tokens"], 7, "output tokens")
    equal(reply["stop_reason"], "max_tokens", "stop_reason")


def _without(body, key):
    return {k: v for k, v in body.items() if k != key}


@checks.cases(
    ("not-json", b"{", "invoke", "Malformed"),
    ("no-object", b"[1]", "invoke", "Malformed"),
    ("empty", b"", "converse", "Malformed"),
    ("no-max-tokens", _without(CLAUDE, "max_tokens"), "invoke", "max_tokens"),
    ("max-tokens-0", dict(CLAUDE, max_tokens=0), "invoke", "max_tokens"),
    ("max-tokens-text", dict(CLAUDE, max_tokens="9"), "invoke", "max_tokens"),
    ("no-version", _without(CLAUDE, "anthropic_version"), "invoke",
     "anthropic_version"),
    ("no-messages", _without(CLAUDE, "messages"), "invoke", "messages"),
    ("empty-messages", dict(CLAUDE, messages=[]), "invoke", "messages"),
    ("bad-role", dict(CLAUDE, messages=[{"role": "x", "content": "y"}]),
     "invoke", "role"),
    ("converse-text", dict(CONVERSE, messages=CLAUDE["messages"]), "converse",
     "content"),
    ("converse-no-messages", {"inferenceConfig": {}}, "converse", "messages"),
    ("converse-max-0", dict(CONVERSE, inferenceConfig={"maxTokens": 0}),
     "converse", "maxTokens"),
    ("streaming", CLAUDE, "invoke-with-response-stream", "streaming"),
)
def a_bad_body_is_a_validation_exception(_name, body, op, word):
    "What the service would not take is refused with 400 and the reason."
    with unsigned() as sim:
        answer = invoke(sim, body, op=op)
        report = sim.report()
    equal(answer.status, 400, "status")
    equal(error_type(answer), "ValidationException", "type")
    check(word in answer.json()["message"], f"names {word}: {answer.body}")
    equal((report["invalid"], report["accepted"]), (1, 0), "the report")


@checks.cases(
    ("bad-escape", "anthropic%zz"), ("nul", "anthropic%00"),
    ("cut-escape", "anthropic%3"), ("line-break", "anthropic.x%0d%0aa"),
    ("too-long", "a" * 2049), ("quote", "anthropic%22"))
def a_bad_model_id_is_refused(_name, segment):
    "And the log stays readable whatever the id has in it."
    with unsigned() as sim:
        answer = http_request("POST", f"{sim.url}/model/{segment}/invoke",
                              CLAUDE)
        lines = wait_until(lambda: len(sim.events()) == 2 and sim.events(),
                           what="two lines in the log")
    equal(answer.status, 400, "status")
    equal(lines[0]["type"], "invalid", "type in the log")


@checks.cases(
    ("slash-in-arn", "/model/arn:aws:bedrock:x:1:inference-profile/a/invoke"),
    ("no-op", "/model/anthropic.x"), ("other", "/"), ("empty", "/model//invoke"),
    ("unknown-op", "/model/a/frobnicate"))
def a_path_without_a_route_is_unknown_with_200(_name, path):
    "As at the real service, also without a signature."
    with Sim() as sim:
        answer = http_request("POST", sim.url + path, CLAUDE)
    equal(answer.status, 200, "status")
    equal(answer.json(), {"Output": {"__type": "com.amazon.coral.service#"
                                     "UnknownOperationException"},
                          "Version": "1.0"}, "body")


@checks.test
def an_encoded_arn_is_one_segment():
    "The id comes back decoded."
    with unsigned() as sim:
        equal(invoke(sim, model=PROFILE_ARN).json()["model"], PROFILE_ARN,
              "model")


@checks.test
def a_body_above_25000000_bytes_is_refused():
    "25,000,000 bytes are taken, one more is a ValidationException."
    body = json.dumps(CLAUDE).encode()
    with unsigned() as sim:
        equal(invoke(sim, body.ljust(25000000)).status, 200, "at the limit")
        answer = invoke(sim, body.ljust(25000001))
        equal(answer.status, 400, "above it")
        equal(error_type(answer), "ValidationException", "type")
        check("25000000" in answer.json()["message"], "names the limit")


# ---------------------------------------------------------------- signatures

@checks.cases(("plain-id", "meta.llama3-8b"), ("colon", MODEL),
              ("profile", "us." + MODEL), ("arn", PROFILE_ARN))
def botocore_is_accepted(_name, model):
    "invoke_model and converse, with and without a session token."
    for token in (None, TOKEN):
        extra = ["--session-token", token] if token else []
        with Sim(extra=extra) as sim:
            client = client_of(sim, token=token)
            body = json.dumps(CLAUDE)
            reply = client.invoke_model(modelId=model, body=body,
                                        contentType="application/json",
                                        accept="application/json")
            check(digest(body.encode()) in reply["body"].read().decode(),
                  "the reply belongs to the request")
            bare = client.invoke_model(modelId=model, body=body)
            equal(bare["ResponseMetadata"]["HTTPStatusCode"], 200, "invoke")
            reply = client.converse(modelId=model, **CONVERSE)
            check(reply["usage"]["outputTokens"] > 0, "usage")
            equal(sim.report()["auth_failures"], 0, "auth_failures")


@checks.cases(
    ("wrong-secret", [], {"secret": "x" * 40}, "InvalidSignatureException"),
    ("no-token", ["--session-token", TOKEN], {}, "UnrecognizedClientException"),
    ("wrong-token", ["--session-token", TOKEN], {"token": "other"},
     "UnrecognizedClientException"),
    ("token-unasked", [], {"token": TOKEN}, "UnrecognizedClientException"),
    ("expired", ["--expired-token", TOKEN], {"token": TOKEN},
     "ExpiredTokenException"))
def botocore_with_wrong_credentials_is_refused(_name, extra, how, code):
    "With 403 and the code that botocore reads from the answer."
    with Sim(extra=extra) as sim:
        client = client_of(sim, **how)
        from botocore.exceptions import ClientError
        try:
            client.invoke_model(modelId=MODEL, body=json.dumps(CLAUDE))
        except ClientError as e:
            equal(e.response["Error"]["Code"], code, "code")
            equal(e.response["ResponseMetadata"]["HTTPStatusCode"], 403,
                  "status")
        else:
            check(False, "it was accepted")
        report = sim.report()
        equal((report["auth_failures"], report["accepted"]), (1, 0), "report")


@checks.cases(
    ("plain", {}, {}),
    ("literal-colon", {}, {"path": f"/model/{MODEL}/invoke"}),
    ("lower-case-hex", {}, {"path": path_of().replace("%3A", "%3a")}),
    ("4-minutes-old", {"skew_s": -240}, {}),
    ("4-minutes-ahead", {"skew_s": 240}, {}),
    ("blanks", {"sent": {"x-amz-meta": "a   b  c"}}, {}),
    ("query", {"query": "a=&b=%2F%20c"}, {"target": path_of() + "?b=/%20c&a"}),
    ("user-agent-unsigned", {"unsigned": ("user-agent",),
                             "sent": {"user-agent": "x"}}, {}))
def a_true_signature_is_accepted(_name, spoil, call):
    "By a signer that is neither rgovd's nor botocore's."
    with Sim() as sim:
        answer = signed_call(sim, Signer(**spoil), **call)
    equal((answer.status, error_type(answer)), (200, ""), "status and type")


def _drop(name):
    return lambda headers: {k: v for k, v in headers.items() if k != name}


def _edit(old, new):
    def edit(headers):
        headers["authorization"] = headers["authorization"].replace(old, new)
        return headers
    return edit


def _flip(headers):
    text = headers["authorization"]
    headers["authorization"] = text[:-1] + ("0" if text[-1] != "0" else "1")
    return headers


INVALID = (403, "InvalidSignatureException")
UNKNOWN = (403, "UnrecognizedClientException")
INCOMPLETE = (400, "IncompleteSignatureException")


@checks.cases(
    ("missing", {"finish": _drop("authorization")}, {},
     (403, "MissingAuthenticationTokenException")),
    ("wrong-key-id", {"access_key": "AKIDOTHER"}, {}, UNKNOWN),
    ("wrong-secret", {"secret_key": "other"}, {}, INVALID),
    ("one-digit", {"finish": _flip}, {}, INVALID),
    ("wrong-region", {"region": "eu-west-1"}, {}, INVALID),
    ("wrong-service", {"service": "bedrock-runtime"}, {}, INVALID),
    ("wrong-terminator", {"terminator": "aws5_request"}, {}, INVALID),
    ("wrong-day", {"day": "20200101"}, {}, INVALID),
    ("6-minutes-old", {"skew_s": -360}, {}, INVALID),
    ("6-minutes-ahead", {"skew_s": 360}, {}, INVALID),
    ("other-body", {"signed_body": b"{}"}, {}, INVALID),
    ("other-path", {}, {"target": path_of("anthropic.other")}, INVALID),
    ("added-query", {}, {"target": path_of() + "?a=b"}, INVALID),
    ("changed-header", {"finish": lambda h: dict(h, **{"content-type": "x"})},
     {}, INVALID),
    ("content-sha256", {"sent": {"x-amz-content-sha256": "0" * 64}}, {},
     INVALID),
    ("unsigned-host", {"unsigned": ("host",)}, {}, INVALID),
    ("unsigned-date", {"unsigned": ("x-amz-date",)}, {}, INVALID),
    ("unsigned-amz", {"sent": {"x-amz-meta": "1"}, "unsigned": ("x-amz-meta",)},
     {}, INVALID),
    ("unsigned-type", {"unsigned": ("content-type",)}, {}, INVALID),
    ("unsigned-token", {"token": TOKEN, "unsigned": ("x-amz-security-token",)},
     {}, INVALID),
    ("absent-header", {"finish": _drop("content-type")}, {}, INVALID),
    ("unsorted", {"finish": _edit("content-type;host", "host;content-type")},
     {}, INVALID),
    ("upper-case", {"finish": _edit("content-type;host", "Content-Type;host")},
     {}, INVALID),
    ("no-date", {"finish": _drop("x-amz-date")}, {}, INCOMPLETE),
    ("algorithm", {"algorithm": "AWS4-HMAC-SHA512"}, {}, INCOMPLETE),
    ("no-signature", {"finish": _edit("Signature=", "Sign=")}, {}, INCOMPLETE),
    ("twice", {"finish": _edit(", Signature=", ", Signature=0, Signature=")},
     {}, INCOMPLETE),
    ("short-scope", {"finish": _edit("/aws4_request", "")}, {}, INCOMPLETE),
    ("bearer", {"finish": lambda h: dict(h, authorization="Bearer guess")},
     {}, UNKNOWN))
def a_false_signature_is_refused(_name, spoil, call, expected):
    "With the status and type of the service, and without using the quota."
    with Sim(rpm=1) as sim:
        answer = signed_call(sim, Signer(**spoil), **call)
        equal((answer.status, error_type(answer)), expected, "the answer")
        equal(signed_call(sim, Signer()).status, 200, "a true one afterwards")


@checks.test
def a_literal_tab_or_broken_date_is_no_signature():
    "Dates that do not exist are not dates."
    for date in ("20261399T000000Z", "20261123T256161Z", "today",
                 "20261123T10000Z0"):
        with Sim() as sim:
            answer = signed_call(sim, Signer(
                finish=lambda h, d=date: dict(h, **{"x-amz-date": d})))
        equal((answer.status, error_type(answer)), INCOMPLETE, date)


@checks.test
def a_bearer_key_is_accepted_when_asked_for():
    "Beside signatures; another key is not."
    with Sim(extra=["--bearer", "bedrock-api-key-1"]) as sim:
        good = invoke(sim, headers={"Authorization": "Bearer bedrock-api-key-1"})
        bad = invoke(sim, headers={"Authorization": "Bearer bedrock-api-key-2"})
        equal((good.status, bad.status), (200, 403), "status")
        equal(signed_call(sim, Signer()).status, 200, "signed")


# ---------------------------------------------------------------- quotas

def judged(sim):
    """The arrivals of the log in order, as (instant in ns, type)."""
    lines = [e for e in sim.events() if e["event"] == "arrival"]
    return [(e["t_mono_ns"], e["type"])
            for e in sorted(lines, key=lambda e: e["n"])]


def all_logged(sim, count):
    wait_until(lambda: len(sim.events()) >= 2 * count, what="the log's end")


def most_in_window(instants, width_ns):
    """The instants are in order."""
    return max((i + 1 - bisect.bisect_right(instants, t - width_ns)
                for i, t in enumerate(instants)), default=0)


def flood(sim, seconds):
    """Calls over one connection, as fast as they are answered."""
    connection = http.client.HTTPConnection("127.0.0.1", sim.ports["http"],
                                            timeout=30)
    body = json.dumps(CLAUDE).encode()
    end = time.monotonic() + seconds
    calls = 0
    while time.monotonic() < end:
        connection.request("POST", path_of(), body)
        connection.getresponse().read()
        calls += 1
    connection.close()
    return calls


@checks.cases(("not-counted", "no"), ("counted", "yes"))
def the_request_quota_is_exact(_name, counted):
    "Every verdict in the log is what counting the log again says."
    # So dense that a window that is off by a few milliseconds shows.  When
    # throttled calls count, silence must come before the next is granted.
    limit, minute_s = 5, 0.25
    with unsigned("--throttled-count", counted, rpm=limit,
                  minute=minute_s) as sim:
        calls = 0
        for _round in range(3 if counted == "yes" else 1):
            calls += sum(in_parallel([lambda: flood(sim, 0.6)] * 2))
            time.sleep(minute_s)
        all_logged(sim, calls)
        log, report = judged(sim), sim.report()
    width_ns = round(minute_s * 1e9)
    window, accepted = [], []
    for at, verdict in log:
        full = len(window) - bisect.bisect_right(window,
                                                 at - width_ns) >= limit
        equal(verdict, "throttled" if full else "ok", f"verdict at {at}")
        if not full:
            accepted.append(at)
        if not full or counted == "yes":
            window.append(at)
    equal(len(log), calls, "arrivals")
    check(0 < len(accepted) < calls, "both verdicts were seen")
    equal(report["accepted"], len(accepted), "accepted")
    equal(report["throttled"], calls - len(accepted), "throttled")
    equal(report["max_starts_in_window"], most_in_window(accepted, width_ns),
          "max_starts_in_window")
    equal(report["max_arrivals_in_window"],
          most_in_window([t for t, _ in log], width_ns),
          "max_arrivals_in_window")
    check(report["max_starts_in_window"] <= limit, "never above the limit")


@checks.test
def a_throttle_looks_like_the_services():
    "Status, type and text; x-amz-retry-after only when asked for."
    for extra, hint in ((), None), (("--retry-after-ms", "1500"), "1500"):
        with unsigned(*extra, rpm=1) as sim:
            invoke(sim)
            answer = invoke(sim)
        equal((answer.status, error_type(answer)),
              (429, "ThrottlingException"), "status and type")
        equal(answer.json()["message"],
              "Too many requests, please wait before trying again.", "text")
        equal(answer.headers["x-amz-retry-after"], hint, "hint")
        equal(answer.headers["Retry-After"], None, "Retry-After")


@checks.test
def the_concurrency_quota_counts_requests_in_progress():
    "Of six at once with a limit of three, three are throttled; then it is free."
    with unsigned(concurrency=3, latency="fixed:0.7") as sim:
        answers = in_parallel([lambda: invoke(sim)] * 6)
        equal(sorted(a.status for a in answers), [200] * 3 + [429] * 3,
              "status")
        equal(invoke(sim).status, 200, "afterwards")
        report = sim.report()
    equal(report["max_concurrent"], 3, "max_concurrent")
    equal(report["running"], 0, "running")


@checks.test
def the_token_quota_reserves_and_settles():
    "Two reservations do not fit at once; what was not used comes back."
    body = dict(CLAUDE, max_tokens=600)
    with unsigned("--tokens-per-minute", "1000", "--output-tokens", "10,10",
                  latency="fixed:0.5") as sim:
        answers = in_parallel([lambda: invoke(sim, body)] * 2)
        refused = [a for a in answers if a.status == 429]
        equal(len(refused), 1, "refused")
        equal(refused[0].json()["message"],
              "Too many tokens, please wait before trying again.", "text")
        equal(invoke(sim, body).status, 200, "after the settlement")
        equal(invoke(sim, dict(CLAUDE, max_tokens=1001)).status, 429,
              "more than there ever is")


@checks.test
def quotas_can_be_of_one_model_each():
    "--host-wide no: two models do not share the window."
    for wide, expected in ("yes", [200, 429, 429]), ("no", [200, 429, 200]):
        with unsigned("--host-wide", wide, rpm=1) as sim:
            found = [invoke(sim, model=m).status
                     for m in (MODEL, MODEL, "us." + MODEL)]
        equal(found, expected, f"--host-wide {wide}")


@checks.test
def an_unfinished_request_gives_its_place_back():
    "A client that dies in the middle of its body has used nothing."
    with unsigned(rpm=1, concurrency=1) as sim:
        with connect(sim) as wire:
            wire.sendall(raw_request(b"x" * 100)[:-50])
            wait_until(lambda: sim.report()["arrivals"] == 1, what="arrival")
            equal(invoke(sim).status, 429, "while it is there")
        wait_until(lambda: sim.report()["incomplete"] == 1, what="its end")
        equal(invoke(sim).status, 200, "afterwards")
        types = {e["n"]: e["type"] for e in sim.events()}
    equal(types[1], "incomplete", "type in the log")


@checks.test
def an_arrival_is_when_the_headers_are_seen():
    "Not when the body is there: the place in the window is taken then."
    body = json.dumps(CLAUDE).encode()
    with unsigned() as sim:
        with connect(sim) as slow:
            slow.sendall(raw_request(body)[:-len(body)])
            wait_until(lambda: sim.report()["arrivals"] == 1, what="arrival")
            invoke(sim)
            slow.sendall(body)
            check(slow.recv(65536).startswith(b"HTTP/1.1 200"), "answered")
        all_logged(sim, 2)
        first, second = judged(sim)
    check(first[0] < second[0], "the slow one arrived first")


# ---------------------------------------------------------------- chance

def latencies(sim, bodies):
    return [int(invoke(sim, b).headers["X-Amzn-Bedrock-Invocation-Latency"])
            for b in bodies]


@checks.cases(("uniform", "uniform:0.001,0.06"), ("exp", "exp:0.02"),
              ("lognormal", "lognormal:0.02,0.6"))
def latency_is_repeatable(_name, how):
    "The same seed gives the same latencies and lengths, another does not."
    runs = []
    for seed in (7, 7, 8):
        with unsigned(latency=how, seed=seed) as sim:
            runs.append(latencies(sim, map(numbered, range(12))))
    equal(runs[0], runs[1], "the same seed")
    check(runs[0] != runs[2], "another seed")
    check(len(set(runs[0])) > 3, f"they differ: {runs[0]}")


@checks.test
def latency_by_body_does_not_depend_on_the_order():
    "Each body has its own, whatever came before."
    with unsigned("--latency-by", "body", latency="uniform:0.001,0.06") as sim:
        forth = latencies(sim, map(numbered, range(10)))
        back = latencies(sim, map(numbered, reversed(range(10))))
    equal(forth, back[::-1], "latencies")
    check(len(set(forth)) > 3, "they differ")


@checks.test
def a_call_takes_its_latency():
    "From the arrival to the answer: not less, and not much more."
    with unsigned(latency="fixed:0.3") as sim:
        begin = time.monotonic()
        invoke(sim)
        took_s = time.monotonic() - begin
        all_logged(sim, 1)
        logged = sim.events()[-1]["latency_s"]
    check(took_s >= 0.3, f"took {took_s:.3f} s")
    check(0.3 <= logged < 2.0, f"logged {logged} s")


@checks.test
def five_hundred_at_once_cost_no_threads():
    "All run at the same time, in four threads, and each gets its own answer."
    count = 500

    async def call(port, i):
        body = json.dumps(numbered(i)).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(raw_request(body, "Connection: close\r\n"))
        text = await reader.read()
        writer.close()
        return text.startswith(b"HTTP/1.1 200") and (
            digest(body).encode() in text.split(b"\r\n\r\n", 1)[1])

    async def calls(port):
        return await asyncio.gather(*(call(port, i) for i in range(count)))

    # Long enough for the last to arrive before the first is answered, also
    # under a sanitizer.
    with unsigned(latency="fixed:4") as sim:
        begin = time.monotonic()
        results = asyncio.run(calls(sim.ports["http"]))
        took_s = time.monotonic() - begin
        threads = len(os.listdir(f"/proc/{sim.process.pid}/task"))
        report = sim.report()
    equal(sum(results), count, "right answers")
    equal(report["max_concurrent"], count, "max_concurrent")
    equal(report["connections"], count, "connections")
    check(threads <= 6, f"{threads} threads")
    check(took_s < 20, f"took {took_s:.1f} s")


# ---------------------------------------------------------------- faults

@checks.cases(
    ("429", 429, "ThrottlingException", "Too many requests,"),
    ("429-tokens", 429, "ThrottlingException", "Too many tokens,"),
    ("429-day", 429, "ThrottlingException", "Too many tokens per day,"),
    ("429-not-ready", 429, "ModelNotReadyException", "not ready"),
    ("500", 500, "InternalServerException", "unexpected error"),
    ("503", 503, "ServiceUnavailableException", "unable to process"),
    ("408", 408, "ModelTimeoutException", "timed out"),
    ("424", 424, "ModelErrorException", "unexpected error"),
    ("400-quota", 400, "ServiceQuotaExceededException", "service quota"),
    ("403", 403, "AccessDeniedException", "access"),
    ("403-expired", 403, "ExpiredTokenException", "expired"),
    ("404", 404, "ResourceNotFoundException", "foundation model"))
def an_error_fault_has_the_services_shape(kind, status, name, words):
    "Status, type and message; counted as a fault, and in the log."
    with with_header() as sim:
        answer = invoke(sim, headers={"x-sim-fault": kind})
        report = sim.report()
        line = sim.events()[0]
    equal((answer.status, error_type(answer)), (status, name), "the answer")
    check(words in answer.json()["message"], f"message {answer.body}")
    equal((report["faults"], report["ok"]), (1, 0), "the report")
    equal(report["accepted"], int(status != 429), "a throttle is no start")
    equal((line["type"], line["status"]), (f"fault:{kind}", status), "the log")


@checks.test
def a_throttle_may_have_its_type_in_the_body_only():
    with with_header() as sim:
        answer = invoke(sim, headers={"x-sim-fault": "429-type-in-body"})
    equal((answer.status, error_type(answer)), (429, ""), "the answer")
    equal(answer.json()["__type"], "com.amazon.bedrock#ThrottlingException",
          "__type")


@checks.test
def an_error_may_come_with_status_200():
    with with_header() as sim:
        answer = invoke(sim, headers={"x-sim-fault": "200-error"})
    equal(answer.status, 200, "status")
    check("UnknownOperationException" in answer.body.decode(), "body")


@checks.test
def a_reset_is_a_reset():
    "RST, and not one byte before it."
    with with_header() as sim:
        try:
            text = fault_on_the_wire(sim, "reset")
        except ConnectionResetError:
            text = None
    equal(text, None, "what came instead of the reset")


@checks.test
def a_truncated_answer_ends_too_early():
    "Less than Content-Length says, then an orderly end."
    with with_header() as sim:
        text = fault_on_the_wire(sim, "truncated")
    head, body = text.split(b"\r\n\r\n", 1)
    check(head.startswith(b"HTTP/1.1 200"), "status")
    announced = int(head.lower().split(b"content-length: ")[1].split()[0])
    check(0 < len(body) < announced, f"{len(body)} of {announced} bytes")


@checks.test
def garbage_is_not_http():
    with with_header() as sim:
        text = fault_on_the_wire(sim, "garbage")
    check(text and not text.startswith(b"HTTP"), f"came {text!r}")


@checks.test
def slow_headers_come_late():
    "Nothing comes before its time, then a whole answer."
    with with_header() as sim:
        with connect(sim) as wire:
            begin = time.monotonic()
            wire.sendall(raw_request(json.dumps(CLAUDE).encode(),
                                     "x-sim-fault: slow-headers:0.5\r\n"))
            first = wire.recv(1)
            took_s = time.monotonic() - begin
        equal(first, b"H", "first byte")
    check(took_s >= 0.5, f"the first byte came after {took_s:.3f} s")


@checks.test
def hang_ends_when_the_client_leaves():
    "No answer ever, but the place in the concurrency comes back."
    with unsigned("--allow-fault-header", concurrency=1) as sim:
        with connect(sim) as wire:
            wire.sendall(raw_request(json.dumps(CLAUDE).encode(),
                                     "x-sim-fault: hang\r\n"))
            wait_until(lambda: sim.report()["running"] == 1, what="the hang")
            wire.settimeout(0.3)
            try:
                text = wire.recv(1)
            except TimeoutError:
                text = None
            equal(text, None, "what came")
            equal(invoke(sim).status, 429, "while it hangs")
        wait_until(lambda: sim.report()["running"] == 0, what="its end")
        equal(invoke(sim).status, 200, "afterwards")


@checks.test
def close_reused_waits_for_a_reused_connection():
    "A fresh one is answered; the next request on a kept one meets silence."
    body = json.dumps(CLAUDE).encode()
    with unsigned("--fault", "close-reused@1") as sim:
        equal(invoke(sim).status, 200, "a fresh connection")
        connection = http.client.HTTPConnection("127.0.0.1",
                                                sim.ports["http"], timeout=30)
        connection.request("POST", path_of(), body)
        answer = connection.getresponse()
        equal((answer.status, bool(answer.read())), (200, True), "kept")
        connection.request("POST", path_of(), body)
        try:
            connection.getresponse()
        except http.client.RemoteDisconnected:
            silent = True
        else:
            silent = False
        connection.close()
        check(silent, "closed without an answer")
        equal(invoke(sim).status, 200, "afterwards")
        all_logged(sim, 4)
        ends = {e["n"]: (e["reused"], e["type"]) for e in sim.events()}
    equal(ends, {1: (False, "ok"), 2: (False, "ok"),
                 3: (True, "fault:close-reused"), 4: (False, "ok")}, "the log")


@checks.test
def faults_strike_the_numbered_arrivals():
    with unsigned("--fault", "500@2,5", "--fault", "slow-headers:0.01@3",
                  "--fault", "503@4") as sim:
        found = [invoke(sim).status for _ in range(6)]
        sim.reset()
        again = [invoke(sim).status for _ in range(2)]
    equal(found, [200, 500, 200, 503, 500, 200], "status")
    equal(again, [200, 500], "numbers begin anew after a reset")


@checks.test
def faults_by_chance_are_repeatable():
    "About the share asked for, and the same with the same seed."
    runs = []
    for seed in (3, 3, 4):
        with unsigned("--fault", "503:0.4", seed=seed) as sim:
            runs.append([invoke(sim).status for _ in range(60)])
    equal(runs[0], runs[1], "the same seed")
    check(runs[0] != runs[2], "another seed")
    check(10 <= runs[0].count(503) <= 40, f"{runs[0].count(503)} of 60")


@checks.test
def faults_can_be_chosen_by_model():
    with unsigned("--fault-model", "*.sick-*=503", "--fault-model",
                  "*:ill=slow-headers:0.01") as sim:
        found = [invoke(sim, {}, model=m).status
                 for m in ("a.sick-1", "a.well-1", "b.sick-2", "x:ill")]
    equal(found, [503, 200, 503, 200], "status")


@checks.test
def the_fault_header_needs_permission():
    "Without the option it is only a header; a misspelt fault is refused."
    with unsigned() as sim:
        equal(invoke(sim, headers={"x-sim-fault": "500"}).status, 200, "status")
    with with_header() as sim:
        equal(invoke(sim, headers={"x-sim-fault": "5oo"}).status, 400, "status")


# ---------------------------------------------------------------- records

@checks.test
def the_log_has_a_line_for_each_arrival_and_end():
    "Whole lines of JSON with what a reader needs to judge again."
    body = json.dumps(CLAUDE).encode()
    with unsigned() as sim:
        invoke(sim, body)
        all_logged(sim, 1)
        arrival, end = sim.events()
    for line, event in (arrival, "arrival"), (end, "end"):
        equal((line["event"], line["n"], line["run"]), (event, 1, 1), event)
        equal(line["body_sha256"], digest(body), "body_sha256")
        equal(line["body_bytes"], len(body), "body_bytes")
        equal((line["op"], line["model"]), ("invoke", MODEL), "op and model")
        equal((line["status"], line["type"]), (200, "ok"), "status and type")
    check(arrival["latency_s"] is None and end["latency_s"] >= 0, "latency_s")
    check(end["t_mono_ns"] > arrival["t_mono_ns"], "order in time")


@checks.test
def the_report_counts_duplicates():
    "The same body for the same model is one; for another model it is not."
    with unsigned("--fault", "500@1") as sim:
        invoke(sim, numbered(1))
        invoke(sim, numbered(1))
        invoke(sim, numbered(1))
        invoke(sim, numbered(2))
        invoke(sim, numbered(2), model="us." + MODEL)
        report = sim.report()
    equal((report["duplicates"], report["duplicates_of_ok"]), (2, 1),
          "duplicates")


@checks.test
def the_report_counts_connections_that_carried_arrivals():
    "Not those that asked for the report."
    with unsigned() as sim:
        connection = http.client.HTTPConnection("127.0.0.1",
                                                sim.ports["http"], timeout=30)
        for i in range(3):
            connection.request("POST", path_of(), json.dumps(numbered(i)))
            connection.getresponse().read()
        connection.close()
        invoke(sim)
        sim.report()
        equal(sim.report()["connections"], 2, "connections")


@checks.test
def a_client_that_leaves_is_not_counted_as_ok():
    "However its leaving is noticed: while it sleeps, or when it is answered."
    count = 100
    with unsigned(latency="fixed:2") as sim:
        for client in range(count):
            with connect(sim) as wire:
                wire.sendall(raw_request(json.dumps(CLAUDE).encode()))
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                b"\1\0\0\0\0\0\0\0")
                if client % 2:
                    time.sleep(0.002)
        wait_until(lambda: sim.report()["running"] == 0
                   and len(sim.events()) % 2 == 0, what="all to end")
        report = sim.report()
    check(report["aborted"] > count / 4, f"aborted: {report['aborted']}")
    equal(report["aborted"] + report["incomplete"], report["arrivals"],
          "every arrival was left")
    equal(report["ok"], 0, "ok")


@checks.test
def reset_begins_a_new_run():
    "All counts and the window are empty, one simulator serves many runs."
    with unsigned(rpm=2) as sim:
        equal([invoke(sim).status for _ in range(3)], [200, 200, 429], "run 1")
        sim.reset()
        report = sim.report()
        for key in ("arrivals", "accepted", "throttled", "ok", "connections",
                    "max_starts_in_window", "max_concurrent", "duplicates"):
            equal(report[key], 0, key)
        equal(report["run"], 2, "run")
        equal([invoke(sim).status for _ in range(3)], [200, 200, 429], "run 2")


@checks.test
def the_report_is_written_on_sigusr1_and_at_the_end():
    "Whole, by rename, and the same as the live one."
    with unsigned() as sim:
        invoke(sim)
        sim.process.signal(signal.SIGUSR1)
        first = wait_until(lambda: json.loads(sim.report_file.read_text()),
                           what="the report")
        equal((first["arrivals"], first["ok"]), (1, 1), "after SIGUSR1")
        invoke(sim)
        live = sim.report()
        equal(sim.process.stop(), 0, "exit status after SIGTERM")
        last = json.loads(sim.report_file.read_text())
        rest = [p.name for p in sim.scratch.path.iterdir() if ".tmp" in p.name]
        del live["duration_s"], last["duration_s"]
        equal(last, live, "the last report")
        equal(rest, [], "temporary files left")


@checks.test
def sigterm_ends_it_at_once():
    "Also while requests sleep and hang."
    with unsigned("--allow-fault-header", latency="fixed:600") as sim:
        with connect(sim) as one, connect(sim) as two:
            body = json.dumps(CLAUDE).encode()
            one.sendall(raw_request(body))
            two.sendall(raw_request(body, "x-sim-fault: hang\r\n"))
            wait_until(lambda: sim.report()["running"] == 2, what="arrivals")
            begin = time.monotonic()
            equal(sim.process.stop(), 0, "exit status")
            check(time.monotonic() - begin < 5, "within five seconds")


@checks.test
def its_own_pages_are_not_counted():
    "healthz answers without a signature; other pages are 404."
    with Sim() as sim:
        equal(http_request("GET", sim.url + "/_sim/healthz").status, 200, "ok")
        equal(http_request("GET", sim.url + "/_sim/x").status, 404, "unknown")
        equal(http_request("GET", sim.url + "/_sim/reset").status, 404, "GET")
        equal(sim.report()["arrivals"], 0, "arrivals")


@checks.test
def quotas_and_outages_change_while_it_runs():
    "POST /_sim/set; what it does not understand changes nothing."
    def invoke(sim):
        return http_request("POST", sim.url + f"/model/{MODEL}/invoke",
                            CLAUDE).status

    with unsigned(rpm=3) as sim:
        equal([invoke(sim), invoke(sim)], [200, 200], "within three")
        sim.set(requests_per_minute=2)
        equal(invoke(sim), 429, "the third of two")
        for wrong in ("requests-per-minute=9&x=1", "requests-per-minute", "",
                      "outage=fire", "requests-per-minute=-1"):
            equal(http_request("POST", sim.url + "/_sim/set?" + wrong,
                               b"").status, 400, wrong)
        equal(invoke(sim), 429, "still two")
        sim.set(requests_per_minute=0, outage="503")
        equal([invoke(sim), invoke(sim)], [503, 503], "an outage")
        sim.set(outage="none")
        equal(invoke(sim), 200, "after it")


# ---------------------------------------------------------------- HTTPS

def make_certificate(folder):
    made = run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                "-keyout", folder / "key.pem", "-out", folder / "cert.pem",
                "-subj", "/CN=localhost", "-addext",
                "subjectAltName=DNS:localhost,IP:127.0.0.1"])
    equal(made.returncode, 0, f"openssl: {made.stderr}")
    return folder / "cert.pem", folder / "key.pem"


@checks.test
def https_serves_the_same():
    "Beside HTTP, with the same quota, and botocore's signature for its host."
    with Scratch() as folder:
        cert, key = make_certificate(folder)
        with Sim(rpm=2, extra=["--tls-port", "0", "--cert", cert, "--key",
                               key]) as sim:
            client = client_of(sim, url=sim.tls_url, verify=str(cert))
            client.invoke_model(modelId=PROFILE_ARN, body=json.dumps(CLAUDE))
            equal(signed_call(sim, Signer()).status, 200, "HTTP")
            equal(signed_call(sim, Signer()).status, 429, "one quota")
            report = sim.report()
    equal((report["connections"], report["tls_connections"]), (3, 1),
          "connections")


@checks.cases(("reset", ConnectionResetError), ("garbage", OSError),
              ("truncated", http.client.IncompleteRead))
def faults_work_over_https(kind, expected):
    with Scratch() as folder:
        cert, key = make_certificate(folder)
        with unsigned("--tls-port", "0", "--cert", cert, "--key", key,
                      "--allow-fault-header", latency="fixed:0.05") as sim:
            connection = http.client.HTTPSConnection(
                "localhost", sim.ports["https"], timeout=30,
                context=ssl.create_default_context(cafile=cert))
            try:
                connection.request("POST", path_of(), json.dumps(CLAUDE),
                                   {"x-sim-fault": kind})
                connection.getresponse().read()
            except expected:
                failed = True
            else:
                failed = False
            connection.close()
    check(failed, f"no {expected.__name__}")


@checks.test
def https_alone_needs_no_http():
    with Scratch() as folder:
        cert, key = make_certificate(folder)
        ports = folder / "ports"
        process = Process("bedrock-sim", [
            BUILD / "bedrock-sim", "--tls-port", "0", "--cert", cert, "--key",
            key, "--port-file", ports], folder / "log", env=base_env())
        found = wait_until(lambda: json.loads(ports.read_text()), what="ports")
        equal(found["http"], None, "http")
        equal(found["pid"], process.pid, "pid")
        wait_until(lambda: "listening on https://127.0.0.1:" in process.text(),
                   what="the line")
        process.stop()


# ---------------------------------------------------------------- options

def sim_run(*argv):
    return run([BUILD / "bedrock-sim", *argv], env=base_env())


@checks.cases(
    ("unknown", ["--frobnicate"], "--frobnicate"),
    ("short", ["-q"], "-q"),
    ("no-value", ["--port"], "--port"),
    ("argument", ["there"], "there"),
    ("port", ["--port", "65536"], "65536"),
    ("negative", ["--requests-per-minute", "-1"], "-1"),
    ("absurd", ["--concurrency", "99999999999999999999"], "99999999999"),
    ("minute-0", ["--minute", "0"], "'0'"),
    ("minute-nan", ["--minute", "nan"], "nan"),
    ("latency", ["--latency", "gauss:1"], "gauss:1"),
    ("latency-order", ["--latency", "uniform:2,1"], "uniform:2,1"),
    ("latency-long", ["--latency", "fixed:3601"], "fixed:3601"),
    ("tokens", ["--output-tokens", "5"], "'5'"),
    ("fault", ["--fault", "501:0.5"], "501:0.5"),
    ("fault-chance", ["--fault", "500:1.5"], "500:1.5"),
    ("fault-number", ["--fault", "500@0"], "500@0"),
    ("fault-seconds", ["--fault", "slow-headers@1"], "slow-headers@1"),
    ("fault-model", ["--fault-model", "a"], "'a'"),
    ("yes-no", ["--host-wide", "perhaps"], "perhaps"),
    ("empty", ["--secret-key", ""], "--secret-key"),
    ("tls-alone", ["--tls-port", "0"], "--cert"),
    ("cert-alone", ["--cert", "x"], "--tls-port"),
    ("auth", ["--auth", "lax"], "lax"))
def a_bad_option_is_status_64(_name, argv, word):
    "And the sentence quotes the word."
    ended = sim_run(*argv)
    equal((ended.returncode, ended.stdout), (64, ""), "status and stdout")
    check(word in ended.stderr, f"quotes it: {ended.stderr}")


@checks.test
def help_and_version_are_results():
    for argv, words in (["--help"], "--requests-per-minute N"), (
            ["--version"], "bedrock-sim (rgov) "):
        ended = sim_run(*argv)
        equal((ended.returncode, ended.stderr), (0, ""), "status and stderr")
        check(words in ended.stdout, words)


@checks.test
def the_manual_knows_every_option():
    manual = (ROOT / "docs/man/bedrock-sim.1").read_text()
    options = re.findall(r"^  --([a-z-]+)", sim_run("--help").stdout, re.M)
    check(len(options) > 25, "--help lists them")
    for option in options:
        check(f"Fl -{option}" in manual, f"--{option} is in the manual")


@checks.test
def what_cannot_be_opened_is_named():
    with Scratch() as folder, unsigned() as sim:
        for argv, status, word in (
                (["--log", folder / "no/log"], 73, "no/log"),
                (["--port-file", folder / "no/p"], 73, "no/p"),
                (["--port", sim.ports["http"]], 69, "in use"),
                (["--tls-port", 0, "--cert", folder / "c", "--key",
                  folder / "k"], 66, "/c")):
            argv = ["--port", 0, *argv] if "--port" not in argv else argv
            ended = sim_run(*argv)
            equal(ended.returncode, status, f"status of {argv}")
            check(word in ended.stderr, f"names it: {ended.stderr}")


if __name__ == "__main__":
    sys.path.insert(0, str(pathlib.Path(__file__).parent))
    checks.main()
