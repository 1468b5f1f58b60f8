"""A run of rgov as a trace for rgov-plan (rgov-plan(1), TRACE), and what
rgov-plan makes of it: the same questions, under a virtual clock.
"""

import dataclasses
import json

from stack import harness

PROGRAM = harness.BUILD / "rgov-plan"


def record(question, settings):
    """A question that was answered, in real seconds."""
    return {
        "arrival": round(question.asked, 6), "user": question.user,
        "class": "interactive", "model": harness.MODEL, "input_tokens": 50,
        "max_tokens": 100, "used_input_tokens": 50, "used_output_tokens": 100,
        "deadline_s": settings.timeout_here / settings.scale, "outcome": "ok",
        "attempts": len(question.calls), "wait_s": round(question.wait, 6),
        "execution_s": round(question.good.latency, 6),
        "end": round(question.ended, 6),
    }


def write(path, questions, settings):
    answered = sorted((q for q in questions if q.good),
                      key=lambda q: q.ended)
    lines = [{"rgov_trace": 1}, *(record(q, settings) for q in answered)]
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))


def provider(quota):
    """The provider of the run, as a scenario."""
    lines = ["provider {", f"\trequests_per_minute = {quota.starts}",
             f"\tmax_concurrent_requests = {quota.slots}", "}"]
    changes = list(quota.changes)
    for (at, then), (until, _) in zip(changes, changes[1:] + [(None, None)]):
        if then.open:
            lines.append(f'change "{at * 1000:.0f}ms" {{ requests_per_minute '
                         f"= {then.starts} }}")
        else:
            lines.append(f'outage "{at * 1000:.0f}ms" {{ for = '
                         f"{(until - at) * 1000:.0f}ms }}")
    return "\n".join(lines) + "\n"


def planned(folder, name, questions, settings, quota):
    """What rgov-plan says of the run; {} where it is not built."""
    path, scenario, conf = (folder / f"{name}.{kind}"
                            for kind in ("jsonl", "plan", "conf"))
    write(path, questions, settings)
    scenario.write_text(provider(quota))
    # rgovd's own configuration, with the times as they are.
    conf.write_text(dataclasses.replace(
        settings, window_here=quota.window).rgov_conf())
    if not PROGRAM.exists():
        return {}
    done = harness.run([PROGRAM, "--config", conf, "--trace", path, "--json",
                        scenario], env=harness.base_env())
    if done.returncode != 0:
        raise harness.Failed(f"rgov-plan of {path}: {done.stderr.strip()}")
    row = json.loads(done.stdout)["runs"][0]["all"]
    return {"planned_avg_wait_s": row["avg_wait_s"],
            "planned_p95_wait_s": row["p95_wait_s"]}
