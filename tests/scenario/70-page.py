#!/usr/bin/python3 -B
"""The example's page in a real browser: chromium without a screen, the application
behind gunicorn, a real rgovd, the simulator.  The claims are about what the user
sees; the last state of the first is written to BUILD/page.png.
"""

import contextlib
import json
import re
import sys

from harness import *

try:
    from selenium import webdriver
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.common.by import By
except ImportError:
    webdriver = None

sys.path.insert(0, str(BUILD / "python"))

import rgov

APP = ROOT / "examples/flask-app"
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic",
         "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync",
         "--disable-dev-shm-usage", "--remote-debugging-pipe",
         "--window-size=1100,1000")
ONE_PLACE = """max_concurrent_requests = 1
requests_per_minute = 60000
max_requests_per_user = 0
"""
TEXTS = ["Revenue grew by a tenth, carried by the services of the second half.",
         "Costs rose more slowly than revenue, at four percent.",
         "The board proposes a dividend of 1.20 a share."]

# What is shown for less than a look takes.
REMEMBER_STATES = """window.seen = [];
new MutationObserver(() => {
  for (const state of document.querySelectorAll(".card .state"))
    window.seen.push(state.textContent);
}).observe(document.getElementById("sections"),
           {subtree: true, childList: true, characterData: true});"""


class Browser:
    """chromium with a profile of its own, under chromedriver."""

    def __init__(self):
        if webdriver is None or not shutil.which("chromedriver"):
            raise Skip("chromium-driver or python3-selenium is not installed")

    def __enter__(self):
        self.scratch = Scratch()
        self.process = Process("chromedriver", ["chromedriver", "--port=0"],
                               self.scratch.path / "chromedriver.log",
                               env=base_env(HOME=self.scratch.path))
        port = wait_until(
            lambda: re.search(r"successfully on port (\d+)", self.process.text()),
            what="chromedriver's port")[1]
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium")
        for flag in (*FLAGS, f"--user-data-dir={self.scratch.path}/profile"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Remote(f"http://127.0.0.1:{port}",
                                       options=options)
        return self

    def __exit__(self, *_):
        with contextlib.suppress(Exception):
            self.driver.quit()
        self.process.stop()
        self.scratch.remove()

    def open(self, url):
        self.driver.get(url)

    def send(self, *texts):
        """The user writes the sections and presses the button."""
        area = self.find("#text")
        # As a paste: a key press a letter takes its time.
        self.driver.execute_script("arguments[0].value = arguments[1]", area,
                                   "\n\n".join(texts))
        self.find("#form button").click()

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector):
        """What is seen of it; "" where it is hidden."""
        return self.find(selector).text

    def cards(self):
        """What is seen of each section, in the order of the page."""
        try:
            return [Card(e) for e in
                    self.driver.find_elements(By.CSS_SELECTOR, ".card")]
        except StaleElementReferenceException as e:
            raise ValueError(e) from None

    def card(self, words):
        return next(c for c in self.cards() if words in c.title)

    def wait(self, condition, what):
        """Until condition(cards); fails with what was seen instead."""
        seen = []

        def look():
            seen[:] = self.cards()
            return condition(seen)
        try:
            return wait_until(look, what=what, interval=0.1)
        except Failed as e:
            raise Failed(f"{e}; the page showed {self.text('body')!r}") from None

    def complaints(self):
        """What the console has got since the last look."""
        return [entry["message"] for entry in self.driver.get_log("browser")
                if entry["level"] in ("SEVERE", "WARNING")]

    def script_errors(self):
        """The same without requests that failed, where a server is away."""
        return [c for c in self.complaints() if "Failed to load resource" not in c
                and "ERR_" not in c]


class Card:
    def __init__(self, element):
        def text(name):
            return element.find_element(By.CSS_SELECTOR, "." + name).text
        self.element = element
        self.title, self.state = text("title"), text("state")
        self.place, self.result = text("place"), text("result")

    def buttons(self):
        return [b.text for b in
                self.element.find_elements(By.CSS_SELECTOR, "button") if b.text]

    def press(self, name):
        next(b for b in self.element.find_elements(By.CSS_SELECTOR, "button")
             if b.text == name).click()

    def __repr__(self):
        return f"{self.title[:20]!r}: {self.state}, {self.place!r}"


@contextlib.contextmanager
def world(config=ONE_PLACE, latency="fixed:0.1", **env):
    """Everything: (browser, web, rgovd, governor)."""
    with Browser() as browser, Sim(latency=latency, extra=[
            "--fault-model", "*haiku*=404"]) as sim, \
            Rgovd(config, sim=sim) as rgovd, \
            Gunicorn("app:app", rgovd=rgovd, chdir=APP, workers=2,
                     worker_class="gthread", threads=8, env=env) as web, \
            rgov.connect(rgovd.name, socket=str(rgovd.socket)) as gov:
        try:
            yield browser, web, rgovd, gov
        finally:
            # A quick end: a gentle one takes each worker a second.
            web.process.signal(signal.SIGQUIT)


def states(cards):
    return [card.state for card in cards]


@checks.test
def a_users_day():
    """Sections appear with their place, move up, one is cancelled, a reload keeps
    them all, and the results come without anything being pressed."""
    # A start is seen within a second.
    with world(latency="fixed:1.3") as (page, web, rgovd, gov):
        page.open(web.url + "/")
        check("Your sections" in page.text("main"), "the page")
        equal(page.text("#summary"), "No sections yet", "the summary")
        permit = gov.permit(MODEL, user="blocker", timeout=20)
        page.send(*TEXTS)
        page.wait(lambda cards: states(cards) == ["Waiting"] * 3
                  and all("Place" in c.place for c in cards), "three that wait")
        for number, text in enumerate(TEXTS, 1):
            place = page.card(text[:20]).place
            check(f"Place {number} in the queue" in place, f"{number}.: {place!r}")
        equal(page.text("#summary"), "3 waiting", "the summary")

        page.card("Costs").press("Cancel")
        page.wait(lambda cards: "Cancelled" in states(cards), "the cancelled one")
        check("nothing more will come" in page.card("Costs").place, "its words")
        page.wait(lambda _: "Place 2" in page.card("The board").place,
                  "the third moving up")

        before = [(c.title, c.state) for c in page.cards()]
        page.driver.refresh()
        page.wait(lambda cards: [(c.title, c.state) for c in cards] == before,
                  "the same list after a reload")

        page.driver.execute_script(REMEMBER_STATES)
        permit.settle()
        page.wait(lambda cards: states(cards) == ["Done", "Cancelled", "Done"],
                  "the results")
        check("Being analysed" in page.driver.execute_script("return window.seen"),
              "none was shown as running")
        for text in (TEXTS[0], TEXTS[2]):
            body = json.dumps({
                "anthropic_version": "bedrock-2023-05-31", "max_tokens": 400,
                "messages": [{"role": "user", "content":
                              f"Summarise this section.\n\n{text}"}],
            }, separators=(",", ":")).encode()
            check_own_answers([(body, page.card(text[:20]).result)])
        equal(page.text("#summary"), "2 done · 1 cancelled", "the summary")
        equal(page.card("Costs").buttons(), ["Forget"], "the buttons of an end")
        equal(page.complaints(), [], "the console")

        page.driver.refresh()
        page.wait(lambda cards: len(cards) == 3 and all(
            c.result for c in cards if c.state == "Done")
            and "Done" in states(cards), "the results after a reload")
        page.send("A new section, while the old ones are still shown.")
        page.wait(lambda cards: len(cards) == 4, "the new one")
        page.driver.save_screenshot(str(BUILD / "page.png"))
        page.wait(lambda cards: states(cards)[0] == "Done", "its end")
        page.find("#forget-all").click()
        page.wait(lambda cards: cards == [], "an empty list")
        equal(page.complaints(), [], "the console")


@checks.test
def errors_are_told_in_words():
    "A model that is not there; a user above his limit, who then tries again."
    config = ONE_PLACE + "max_tasks_per_user = 1\n"
    with world(config, MODEL_ID="anthropic.claude-3-haiku-20240307-v1:0") \
            as (page, web, rgovd, gov):
        page.open(web.url + "/")
        permit = gov.permit(MODEL, user="blocker", timeout=20)
        page.send(*TEXTS[:2])
        page.wait(lambda cards: "Not accepted" in states(cards), "a refusal")
        refused = page.card("Costs")
        equal(refused.state, "Not accepted", "the second's state")
        check("too many" in refused.place, f"its words: {refused.place!r}")
        equal(refused.buttons(), ["Try again", "Forget"], "its buttons")
        permit.settle()
        page.wait(lambda _: page.card("Revenue").state == "Failed", "a failure")
        failed = page.card("Revenue")
        check("404" in failed.place and len(failed.place) > 20,
              f"its words: {failed.place!r}")
        page.card("Costs").press("Try again")
        page.wait(lambda _: page.card("Costs").state == "Failed",
                  "what became of the second try")
        equal(page.script_errors(), [], "the console")


@checks.test
def rgovd_dies_and_comes_back():
    "The page says so, goes on by itself, and every section ends."
    with world() as (page, web, rgovd, gov):
        page.open(web.url + "/")
        permit = gov.permit(MODEL, user="blocker", timeout=20)
        page.send(*TEXTS)
        page.wait(lambda cards: [c.place[:7] for c in cards]
                  == ["Place 3", "Place 2", "Place 1"], "three that wait")
        rgovd.kill9()
        page.wait(lambda _: "cannot be reached" in page.text("#trouble"),
                  "a word about it")
        rgovd.start()
        permit.settle()
        page.wait(lambda cards: states(cards) == ["Done"] * 3, "the results")
        page.wait(lambda _: page.text("#trouble") == "", "no more trouble")
        equal(page.script_errors(), [], "the console")


checks.main()
