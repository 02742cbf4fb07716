#!/usr/bin/env python3
"""Turns the YAML files beside it into the line format the unit tests read: transcripts.txt and cases.txt.

Run it after a change of the YAML; the results are checked in, so that the tests need neither Python nor a YAML library. It
reads only the part of YAML that these files use. The line format: a keyword, a blank, its value; `transcript` or `case` begins
a new one; `expect N` and `result START END` are followed by their panes.
"""
import os
import re

HERE = os.path.dirname(os.path.abspath(__file__))
TRIGGERS = [("AfterWatermark", "after_watermark"), ("AfterCount", "after_count"), ("AfterAny", "after_any"),
            ("AfterAll", "after_all"), ("AfterEach", "after_each"), ("Repeatedly", "repeatedly"),
            ("DefaultTrigger", "default_trigger()")]


def trigger(text):
    if text in ("Default", "DefaultTrigger"):
        return "default_trigger()"
    for python, ours in TRIGGERS:
        text = text.replace(python, ours)
    return re.sub(r"(early|late)=", r"\1 => ", text)


def window(text):
    name, size = re.fullmatch(r"(\w+?)(?:\((\d+)\))?", text).groups()
    kind = {"GlobalWindows": "global", "Sessions": "session", "FixedWindows": "tumble",
            "CustomTimestampingFixedWindowsWindowFn": "tumble"}[name]
    return kind + (" " + size if size else "")


def lines_of(text):
    """Lines without comments and blank ones; a flow collection that goes over several lines is made one."""
    pending = ""
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#.*$", "", line).rstrip()
        if not line:
            continue
        pending = pending + " " + line.strip() if pending else line
        if pending.count("{") == pending.count("}") and pending.count("[") == pending.count("]"):
            yield pending
            pending = ""


def numbers(text):
    return re.findall(r"[-\w.]+", text)


def pane(text):
    fields = re.findall(r"(\w+):\s*(\[[^]]*\]|[-\w]+)", text)
    return "pane " + " ".join(f"{key}={','.join(numbers(value))}" for key, value in fields)


def transcript(text):
    out, panes, indent = [], None, 0
    for line in lines_of(text):
        match = re.fullmatch(r"(\w+):\s*(.*)", line)
        step = re.fullmatch(r"\s*- (\w+):\s*(.*)", line)
        if match:
            key, value = match.groups()
            if key == "name":
                out.append("transcript " + value)
            elif key == "error":
                out.append("error " + value)
            elif key == "window_fn":
                out.append("window " + window(value))
            elif key == "trigger_fn":
                out.append("trigger " + trigger(value))
            elif key == "timestamp_combiner" and value == "OUTPUT_AT_EARLIEST_TRANSFORMED":
                out.append("skip OUTPUT_AT_EARLIEST_TRANSFORMED is a deprecated Python feature")
            elif key == "timestamp_combiner":
                out.append("combiner " + {"EOW": "end_of_window"}.get(value[10:], value[10:].lower()))
            elif key == "allowed_lateness":
                out.append("lateness " + value)
            elif key == "accumulation_mode":
                out.append("accumulation " + value)
            elif key not in ("transcript", "broken_on", "windowfn"):
                raise SystemExit("what is " + line)
        elif step:
            key, value = step.groups()
            if key == "expect":
                panes = len(out)
                out.append("expect 0")
            elif key != "state":
                out.append(key + " " + " ".join(numbers(value)))
        elif re.match(r"\s*- \{", line):
            out.append(pane(line))
            out[panes] = "expect %d" % (len(out) - panes - 1)
    return out


def case(text):
    out, section, results = [], None, []
    for line in lines_of(text):
        line = line.strip()
        match = re.fullmatch(r"(?:- )?(\w+):\s*(.*)", line)
        key, value = match.groups() if match else (None, line)
        if key == "name":
            out.append("case " + value)
        elif key == "window_fn":
            out.append("window " + window(value))
        elif key == "trigger_fn":
            out.append("trigger " + trigger(value))
        elif key == "accumulation_mode":
            out.append("accumulation " + value)
        elif key in ("input", "late_input"):
            section = len(out)
            out.append("input" if key == "input" else "late")
        elif key == "bundle_sizes":
            out.append("bundles " + " ".join(numbers(value)))
        elif key == "expect_java":
            results = []
        elif key == "window":
            section = None
            results.append("result " + " ".join(numbers(value)))
        elif key is None and section is not None:
            out[section] += " " + ":".join(numbers(value[2:]))
        elif key is None:
            results.append("pane " + " ".join(numbers(value[2:])))
    return out + results


def main():
    with open(os.path.join(HERE, "trigger_transcripts.yaml"), encoding="utf-8") as file:
        documents = file.read().split("\n---\n")
    with open(os.path.join(HERE, "python_trigger_cases.yaml"), encoding="utf-8") as file:
        cases = re.split(r"\n(?=- name:)", file.read())[1:]
    for name, blocks in (("transcripts.txt", map(transcript, documents)), ("cases.txt", map(case, cases))):
        with open(os.path.join(HERE, name), "w", encoding="utf-8") as file:
            file.write("# Made by convert.py; apache/beam, Apache License 2.0 (see the YAML files).\n")
            for block in blocks:
                file.write("\n" + "\n".join(block) + "\n")


main()
