import re

import nbformat
import pytest

from lib import paths, report
from lib.errors import UserError
from lib.evaluation import compare
from lib.pipeline import commands
from lib.pipeline.plan import make_plan
from tests.test_compare import evaluated_run


def test_the_summary_has_the_places_of_the_reports_and_one_line_per_run(tmp_path):
    folder = evaluated_run(tmp_path / "cnn4")
    lines = report.summary([folder], source="kaggle", command="make report RUN=cnn4 DATA=kaggle").splitlines()
    assert lines[0] == "Reports (`make report RUN=cnn4 DATA=kaggle` opens one):"
    assert lines[1] == f"  {folder / 'evaluate.ipynb'}"
    assert " ".join(lines[-2].split()) == "run conv layers parameters epochs seconds accuracy macro F1"
    assert lines[-1].split() == ["cnn4", "4", "6,497,842", "40", "120", "0.912", "0.900"]


def test_the_summary_of_the_sample_explains_what_its_scores_show(tmp_path):
    folder = evaluated_run(tmp_path / "cnn4")
    assert report.summary([folder], "sample", "make report RUN=cnn4").splitlines()[-1] == report.SAMPLE_SENTENCE


def test_the_command_that_opens_a_report_names_its_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setenv("SIZE", "96")
    evaluated_run(tmp_path / "outputs" / "sample-96px" / "ablation" / "base")
    commands.summary(make_plan({"SIZE": "96", "RUNS": "ablation/base"}))
    assert "`make report RUN=ablation/base SIZE=96` opens one" in capsys.readouterr().out


def test_the_comparison_has_intervals_lowest_characters_and_near_duplicates(tmp_path):
    scores = {"near_duplicates_in_train": 7, "kaggle_test": {"macro_f1": 0.71}}
    results = compare.results([evaluated_run(tmp_path / "cnn4", scores=scores, characters=["bart", "lisa", "homer"])])
    headings, row = report.table(results, report.COMPARISON).to_string(index=False).splitlines()
    assert "near-duplicates in train" in headings
    assert " ".join(row.split()) == "cnn4 3 4 6,497,842 40 3 2.0 0.912 0.900 0.850 to 0.940 Lisa Simpson 0.800 0.710 7"


def test_scores_that_a_record_lacks_are_blank(tmp_path):
    scores = {"macro_f1_interval": None, "near_duplicates_in_train": 0}
    results = compare.results([evaluated_run(tmp_path / "cnn4", scores=scores, characters=["bart", "lisa", "homer"])])
    row = report.table(results, report.COMPARISON).to_string(index=False).splitlines()[1]
    assert " ".join(row.split()) == "cnn4 3 4 6,497,842 40 3 2.0 0.912 0.900 Lisa Simpson 0.800 0"


def test_reports_become_web_pages_beside_the_notebooks(tmp_path):
    cells = [nbformat.v4.new_markdown_cell("# A report")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "evaluate.ipynb")
    (page,) = report.write_pages(tmp_path)
    assert page == tmp_path / "evaluate.html"
    text = page.read_text(encoding="utf-8")
    assert "A report" in text and not re.search(r'<(script|link|img)[^>]*(src|href)="https?:', text)


def test_a_damaged_report_is_named(tmp_path):
    (tmp_path / "train.ipynb").write_text('{"cells": [')
    with pytest.raises(UserError, match=r"train\.ipynb is damaged: .* Delete it to see the others\."):
        report.write_pages(tmp_path)


def test_a_run_without_reports_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"no report in .* yet\. `make train evaluate` writes them"):
        report.write_pages(tmp_path)
