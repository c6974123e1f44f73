"""What all cases share: services that end with the test, logs where it failed, the same-answer check."""
import os
import time
import unittest

import nodes
from answers import ask_all, difference, make_requests, reference
from nodes import Service, Unexpected


class Case(unittest.TestCase):
    longMessage = True
    maxDiff = 2000

    def setUp(self):
        self.services = []
        self.addCleanup(nodes.kill_everything)

    def make(self, *args, **kwargs):
        service = Service(*args, **kwargs)
        self.services.append(service)
        self.addCleanup(service.close)
        return service

    def logs(self):
        return "\n".join(service.tails() for service in self.services)

    def assert_same_answers(self, service, model="fable", count=8):
        """Exactly what ep_size 1 answers."""
        wanted = reference(model)[:count]
        found = difference(wanted, ask_all(service.client, make_requests(model)[:count]))
        self.assertEqual(found, "")

    def assert_failed_well(self, stream, within=None, since=None):
        """An error object, then a cut connection; or, before anything was answered, status 503 with an error
        object. Never [DONE]. `within` seconds after `since`."""
        stream.wait_end()
        self.assertFalse(stream.done, f"[DONE] after a failure: {stream.told()}")
        self.assertIsNotNone(stream.error, f"no error object: {stream.told()}")
        if stream.ending[1] == "refused":
            self.assertEqual((stream.status, stream.events), (503, []), stream.told())
        else:
            self.assertEqual(stream.ending[1], "cut", stream.told())
        self.assertTrue(stream.error[1].get("message"), stream.told())
        if within is not None:
            self.assertLess(stream.ending[0] - since, within, "seconds until the stream ended")

    def start_stories(self, service, stories, events=5):
        """Opens streams and returns once each has given some tokens."""
        streams = [service.client.stream(body) for body in stories]
        for stream in streams:
            stream.wait_events(events)
        return streams


class Result(unittest.TextTestResult):
    """One line a test, with its time; what is left out is counted."""

    def startTest(self, test):
        unittest.TestResult.startTest(self, test)
        self.began = time.monotonic()
        self.printed = False

    def line(self, word, test, more=""):
        text = test.shortDescription() or str(test)
        self.stream.writeln(f"{word:5} {time.monotonic() - self.began:5.1f} s  {text}{more}")
        self.stream.flush()

    def addSuccess(self, test):
        unittest.TestResult.addSuccess(self, test)
        self.passed = getattr(self, "passed", 0) + 1
        self.line("ok", test)

    def addSkip(self, test, reason):
        unittest.TestResult.addSkip(self, test, reason)
        self.began = getattr(self, "began", time.monotonic())
        self.line("left", test, f" ({reason})")

    def tell(self, test, error):
        self.line("FAIL", test)
        kind, value, trace = error
        known = issubclass(kind, (AssertionError, Unexpected))
        self.stream.writeln(f"{kind.__name__}: {value}" if known else "")
        self.stream.writeln(self._exc_info_to_string(error, test))
        if isinstance(test, Case) and not self.printed:
            self.printed = True
            self.stream.writeln(test.logs())
        self.stream.flush()

    def addFailure(self, test, err):
        unittest.TestResult.addFailure(self, test, err)
        self.tell(test, err)

    def addError(self, test, err):
        unittest.TestResult.addError(self, test, err)
        self.tell(test, err)

    def printErrors(self):
        pass


def seed():
    """Of everything drawn at random: PLEIAD_SEED, or the time."""
    return int(os.environ.setdefault("PLEIAD_SEED", str(int(time.time()))))
