#!/usr/bin/env python3
"""Each rule of tools/check finds its violation in a small tree, and nothing in a clean one."""
import importlib.machinery
import importlib.util
import os
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
LOADER = importlib.machinery.SourceFileLoader("check", os.path.join(HERE, "..", "..", "tools", "check"))
CHECK = importlib.util.module_from_spec(importlib.util.spec_from_loader("check", LOADER))
LOADER.exec_module(CHECK)

CLEAN = {
    "src/LAYERS": "base:\nnet: base\n",
    "src/base/README.md": "# base\n",
    "src/base/a.h": "#pragma once\n",
    "src/net/README.md": "# net\n",
    "src/net/b.h": '#pragma once\n\n#include "base/a.h"\n',
    "ARCHITECTURE.md": "# Map\n\n| room | what |\n| --- | --- |\n| base | x |\n| net | y |\n",
}


class CheckTest(unittest.TestCase):
    def findings(self, rule, files=None):
        """What `rule` says of the clean tree with `files` added or replaced."""
        with tempfile.TemporaryDirectory() as root:
            subprocess.run(["git", "init", "-q", root], check=True)
            for path, text in {**CLEAN, **(files or {})}.items():
                full = os.path.join(root, path)
                os.makedirs(os.path.dirname(full), exist_ok=True)
                with open(full, "w", encoding="utf-8") as file:
                    file.write(text)
            CHECK.ROOT = root
            return list(CHECK.RULES[rule]())

    def test_a_clean_tree_passes(self):
        for rule in ("layers", "sizes", "text", "words", "calls", "map", "mirror"):
            self.assertEqual(self.findings(rule), [], rule)

    def test_an_upward_include_is_found(self):
        found = self.findings("layers", files={"src/base/c.h": '#include "net/b.h"\n'})
        self.assertIn("base may not include net", found[0])

    def test_a_private_header_is_private(self):
        files = {"src/base/detail/p.h": "", "src/net/c.h": '#include "base/detail/p.h"\n'}
        self.assertIn("private to base", self.findings("layers", files=files)[0])

    def test_an_include_of_no_file_is_found(self):
        self.assertIn("is no file", self.findings("layers", files={"src/net/c.h": '#include "b.h"\n'})[0])

    def test_a_cycle_of_rooms_is_found(self):
        self.assertIn("reaches itself", self.findings("layers", files={"src/LAYERS": "base: net\nnet: base\n"})[0])

    def test_a_long_file_is_found_and_kernels_may_be_longer(self):
        self.assertEqual(len(self.findings("sizes", files={"src/base/long.cc": "\n" * 601})), 1)
        self.assertEqual(self.findings("sizes", files={"src/kernels/long.cc": "\n" * 601}), [])

    def test_banned_calls_are_found_outside_comments_and_strings(self):
        code = 'void f() {\n  // rand() in a comment\n  g("rand()");\n  rand();\n}\n'
        found = self.findings("calls", files={"src/base/c.cc": code})
        self.assertEqual(len(found), 1)
        self.assertIn("c.cc:4", found[0])

    def test_leftover_words_are_found(self):
        self.assertEqual(len(self.findings("words", files={"src/base/c.cc": "// TO" + "DO: later\n"})), 1)

    def test_tabs_blanks_and_titles_are_found(self):
        files = {"src/base/c.cc": "\tx;\ny; \n", "docs/two.md": "# One\n\n# Two\n"}
        self.assertEqual(len(self.findings("text", files=files)), 3)

    def test_a_room_missing_from_the_map_is_found(self):
        files = {"src/extra/x.h": "", "src/extra/README.md": "# extra\n", "src/LAYERS": "base:\nnet: base\nextra:\n"}
        self.assertIn("extra is missing", self.findings("map", files=files)[0])

    def test_a_source_without_its_test_is_found(self):
        files = {"src/base/big.cc": "x\n" * 41}
        self.assertEqual(len(self.findings("mirror", files=files)), 1)
        files["tests/base/other_test.cc"] = "// Also tests: big.cc\n"
        self.assertEqual(self.findings("mirror", files=files), [])

    def test_the_cuda_side_of_a_room_is_mirrored_in_a_folder_of_its_own(self):
        files = {"src/base/cuda/kernel.cu": "\n" * 50, "tests/base/kernel_test.cc": ""}
        self.assertEqual(len(self.findings("mirror", files=files)), 1)
        files["tests/base/cuda/kernel_test.cu"] = ""
        self.assertEqual(self.findings("mirror", files=files), [])


if __name__ == "__main__":
    unittest.main(verbosity=0)
