#!/usr/bin/env python3
"""Takes chart number N (from 1) out of a report.html as an SVG file of its own: picture.py report.html N out.svg"""
import re
import sys

report, number, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
page = open(report, encoding="utf-8").read()
chart = re.findall(r"<svg .*?</svg>", page, re.S)[number - 1]
style = re.search(r"<style>(.*?)\*\{box-sizing", page, re.S).group(1)  # the charts' part of the style sheet
head, body = chart.split("\n", 1)
background = '<rect width="100%" height="100%" style="fill:var(--paper)"/>'
with open(out, "w", encoding="utf-8") as file:
    file.write(f"{head}\n<style>{style}</style>\n{background}\n{body}\n")
