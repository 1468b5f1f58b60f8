"""The results for people: lines while it runs, Markdown, plots."""

import pathlib
import re

import plot

# key of a run, title, format
COLUMNS = (
    ("strategy", "strategy", "{}"),
    ("users", "users", "{}"),
    ("throttled", "throttled", "{}"),
    ("failures", "failures", "{}"),
    ("calls_per_needed", "calls per question", "{:.2f}"),
    ("avg_wait_s", "average wait", "{:.0f} s"),
    ("p95_wait_s", "p95 wait", "{:.0f} s"),
    ("total_over_ideal", "total over ideal", "{:.3f}"),
    ("total_over_bound", "over the bound", "{:.3f}"),
    ("others_wait_over_fair", "others' wait over fair", "{:.2f}"),
    ("quota_used", "quota used", "{:.1%}"),
    ("jain", "Jain", "{:.3f}"),
    ("connections", "connections", "{}"),
)
EXTRA = (
    ("seed", "seed", "{}"),
    ("probes_per_closing", "probes per closing", "{:.2f}"),
    ("throttled_before_settled", "throttled before settled", "{}"),
    ("quota_used_settled", "quota used then", "{:.1%}"),
)
PLANNED = (
    ("case", "case", "{}"),
    ("users", "users", "{}"),
    ("avg_wait_s", "measured", "{:.1f} s"),
    ("planned_avg_wait_s", "rgov-plan", "{:.1f} s"),
    ("planned_over_measured", "ratio", "{:.3f}"),
    ("p95_wait_s", "measured p95", "{:.1f} s"),
    ("planned_p95_wait_s", "rgov-plan p95", "{:.1f} s"),
)
CASES = (
    ("steady", "Long calls: 75 s, three slots bind",
     "5, 10, 20 users ask 5, 4, 4 questions each, at once."),
    ("greedy", "Long calls, one greedy user",
     "The same, and one of the users asks ten times as many."),
    ("steady-short", "Short calls: 4 to 6 s, 30 starts a minute bind",
     "5, 10, 20 users ask 12, 6, 4 questions each, at once."),
    ("greedy-short", "Short calls, one greedy user",
     "The same, and one of the users asks ten times as many."),
    ("halved", "The quota is cut in half after two minutes",
     "Short calls; 10 users ask 20 questions each. Another host takes 15 of the "
     "30 starts a minute."),
    ("throttling", "A provider that throttles below its quota",
     "Short calls; 5 % of all calls are throttled by chance, "
     "which the seed draws."),
    ("daily-quota", "The daily quota is used up",
     "Short calls; from the first minute on every call is answered with the "
     "daily quota's throttle, until the day turns three minutes later."),
    ("outage", "An outage of one minute",
     "Short calls; every call is answered 503 for the second minute."),
)


def cell(run, key, form):
    value = run.get(key)
    return "-" if value is None else form.format(value)


def line(run):
    """One run while it goes on."""
    return (f"{run['strategy']:18} {run['case']:12} {run['users']:2} users: "
            + ", ".join(f"{title} {cell(run, key, form)}"
                        for key, title, form in COLUMNS[2:] + EXTRA
                        if run.get(key) is not None))


def table(rows, columns):
    """A Markdown table; a column that nobody has is left out."""
    columns = [c for c in columns
               if any(run.get(c[0]) is not None for run in rows)]
    lines = ["| " + " | ".join(title for _, title, _ in columns) + " |",
             "|" + "---|" * 1 + "---:|" * (len(columns) - 1)]
    lines += ["| " + " | ".join(cell(run, key, form)
                                for key, _, form in columns) + " |"
              for run in rows]
    return "\n".join(lines)


def promised(case):
    """(key, least, most) of what rgov promises in a case."""
    yield "failures", 0, 0
    yield "probes_per_closing", 0, 1
    yield "planned_over_measured", 0.9, 1.1
    if case.split("-")[0] in ("steady", "greedy", "one"):
        yield "throttled", 0, 0
        yield "total_over_ideal", 0, 1.03
    if case.split("-")[0] in ("steady", "greedy"):
        yield "quota_used", 0.99, 1
        yield "jain", 0.99, 1
    if case.startswith("greedy"):
        yield "others_wait_over_fair", 0, 1.05
    if case == "halved":
        yield "throttled_before_settled", 0, 3
        yield "quota_used_settled", 0.95, 1


def shortfalls(runs):
    """What rgov promises and these runs do not show."""
    for run in runs:
        for key, least, most in promised(run["case"]):
            value = run.get(key)
            if (run["strategy"] == "rgov" and value is not None
                    and not least <= value <= most):
                yield (f"{run['case']}, {run['users']} users: {key} "
                       f"{value:.4g}")


# ---------------------------------------------------------------- old page

def promise(results):
    """What the old page promised, what is possible, what was measured."""
    old = {5: 3, 10: 15, 20: 45}
    rows = [dict(run, promised=old[run["users"]])
            for run in results["runs"] if run["case"] == "one-each"]
    return table(rows, (
        ("users", "users", "{}"), ("promised", "promised", "{} s"),
        ("ideal_avg_wait_s", "best possible", "{:.1f} s"),
        ("avg_wait_s", "rgov", "{:.1f} s"),
        ("planned_avg_wait_s", "rgov-plan", "{:.1f} s")))


def what_if(results):
    rows = results.get("what_if", [])
    return table(rows, (
        ("calls", "calls of", "{:g} s"), ("slots", "slots", "{}"),
        ("starts", "starts a minute", "{}"),
        ("wait_5", "5 users", "{:.0f} s"), ("wait_10", "10 users", "{:.0f} s"),
        ("wait_20", "20 users", "{:.0f} s")))


# ---------------------------------------------------------------- all of it

def setting(results):
    noise = max(run["noise_over_window"] for run in results["runs"])
    most = max(run["noise_max_ms"] for run in results["runs"])
    scales = ", ".join(f"{window:g} s with {calls}" for calls, window
                       in results["window_here_s"].items())
    return f"""\
| | |
|---|---|
| machine | {results['machine']} |
| date | {results['date']}, commit {results['commit']} |
| duration | {results['duration_s']} s |
| time | 60 s take {scales}; all figures are real seconds |
| noise | of the noisiest run: 99.9 % of sleeps of 5 ms ended at most {noise:.4f} \
of a window late (bound: 0.01), the worst one {most:.1f} ms |
| quota | 3 calls at once, 30 starts in any 60 s, of the whole account \
(preset `production-low`) |
| rgov | guard {results['guard_s']:g} s, `max_requests_per_user = 3`, the rest as by \
default; event loop {results['engine']} |
| web | gunicorn, {results['workers']} workers, gthread, {results['threads']} \
threads each |"""


def markdown(results):
    runs = results["runs"]
    parts = [setting(results)]
    for name, title, text in CASES:
        rows = [run for run in runs if run["case"] == name]
        if rows:
            rows.sort(key=lambda run: run["users"])
            parts.append(f"### {title}\n\n{text}\n\n"
                         + table(rows, COLUMNS + EXTRA))
    if any(run["case"] == "one-each" for run in runs):
        parts.append(
            "### One question each\n\nCalls of 75 s, three slots; everybody "
            "asks one question at the same time. The average waits that the "
            "old page promised, the best possible, and rgov:\n\n"
            + promise(results)
            + "\n\nThe best possible average wait with shorter calls or more "
            "slots (computed):\n\n" + what_if(results))
    planned = [run for run in runs
               if run.get("planned_avg_wait_s") is not None]
    if planned:
        parts.append("### rgov-plan beside the measurement\n\n"
                     "rgov-plan was given who asked when, and how long each "
                     "call took.\n\n" + table(planned, PLANNED))
    missed = list(shortfalls(runs))
    parts.append("### What falls short\n\n" + ("\n".join(
        f"- {text}" for text in missed) or "Nothing of what is promised."))
    for strategy, why in results["skipped"].items():
        parts.append(f"Not measured: {strategy} ({why}).")
    parts += [f"![{title}](experiment/{name})"
              for name, title in results["plots"]]
    return "\n\n".join(parts) + "\n"


def plots(runs):
    """(file, title, SVG)."""
    for case, title in (("steady", "Long calls"),
                        ("greedy", "Long calls, one greedy user"),
                        ("steady-short", "Short calls"),
                        ("greedy-short", "Short calls, one greedy user")):
        rows = [run for run in runs if run["case"] == case]
        if not rows:
            continue
        users = sorted({run["users"] for run in rows})
        names = list(dict.fromkeys(run["strategy"] for run in rows))
        found = {(r["strategy"], r["users"]): r for r in rows}

        def values(key, found=found, names=names, users=users):
            return {name: [found.get((name, n), {}).get(key) for n in users]
                    for name in names}

        labels = [f"{n} users" for n in users]
        yield (f"{case}-failed.svg", f"{title}: questions that failed",
               plot.bars(f"{title}: share of the questions that failed", labels,
                         {name: [r and r["failures"] / r["questions"] * 100
                                 for r in (found.get((name, n))
                                           for n in users)]
                          for name in names}, "%"))
        yield (f"{case}-calls.svg", f"{title}: calls per question",
               plot.bars(f"{title}: calls made per question", labels,
                         values("calls_per_needed"), ""))
        yield (f"{case}-wait.svg", f"{title}: waits over the fair schedule",
               plot.bars(f"{title}: wait over that of the fair schedule"
                         + (", others than the greedy user"
                            if "greedy" in case else ""), labels,
                         values("others_wait_over_fair"), ""))


def timelines(runs):
    for run in runs:
        if run["strategy"] != "rgov" or "timeline" not in run:
            continue
        title = f"rgov, {run['case']}: starts in the last 60 s"
        yield (f"{run['case']}-timeline.svg", title, plot.lines(title, {
            "starts": [(row[0], row[1]) for row in run["timeline"]],
            "the provider's quota": [(row[0], row[2])
                                     for row in run["timeline"]],
            "throttles so far": [(row[0], row[3])
                                 for row in run["timeline"]]}))


def write(out, results):
    drawn = [*plots(results["runs"]), *timelines(results["runs"])]
    for old in out.glob("*.svg"):
        old.unlink()
    for name, _, svg in drawn:
        (out / name).write_text(svg)
    results["plots"] = [(name, title) for name, title, _ in drawn]
    (out / "experiment.md").write_text(markdown(results))


def publish(out, docs):
    """Into docs/experiment.md, between its two marks, and docs/experiment/."""
    page = docs / "experiment.md"
    text = (out / "experiment.md").read_text()
    page.write_text(re.sub(
        "(<!-- results -->\n).*(<!-- end of results -->)",
        lambda found: f"{found[1]}\n{text}\n{found[2]}", page.read_text(),
        flags=re.DOTALL))
    folder = pathlib.Path(docs / "experiment")
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    for plotted in out.glob("*.svg"):
        (folder / plotted.name).write_text(plotted.read_text())
