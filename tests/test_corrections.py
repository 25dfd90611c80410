import pandas as pd
import pytest

from lib import records
from lib.data import corrections, dataset
from lib.errors import UserError
from tests.noise_pictures import prepare, write_two_characters


def rows(*values):
    return pd.DataFrame(values, columns=list(corrections.COLUMNS))


def row(path, verdict="keep", label="bart", when="2026-01-01T00:00:00+00:00", who="ann", sha256=""):
    return (path, sha256, label, verdict, who, when)


def test_what_was_written_is_read_and_a_missing_file_is_empty(tmp_path):
    file = tmp_path / "data" / "corrections.csv"
    assert corrections.read(file).empty
    written = corrections.update(file, rows(row("bart/NA.png", label="NA")))
    pd.testing.assert_frame_equal(corrections.read(file), written)


def test_of_two_verdicts_on_a_picture_the_latest_counts_in_any_order(tmp_path):
    early, late = rows(row("a", "exclude", "", "2026-01-01")), rows(row("a", "keep", "bart", "2026-01-02"))
    for merged in (corrections.merge(early, late), corrections.merge(late, early)):
        assert merged.verdict.tolist() == ["keep"]
    records.write_csv(tmp_path / "joined.csv", pd.concat([late, early]))
    assert corrections.read(tmp_path / "joined.csv").verdict.tolist() == ["keep"]


def test_pictures_of_one_name_in_two_sources_keep_a_verdict_each():
    one, other = rows(row("a", sha256="1")), rows(row("a", "exclude", "", sha256="2"))
    merged = corrections.merge(one, other)
    assert merged.sha256.tolist() == ["1", "2"]
    table = pd.DataFrame({"path": ["a", "b"], "sha256": ["2", "1"]})
    assert corrections.of_each(table, merged).verdict.tolist() == ["exclude", ""]


def test_a_verdict_is_taken_back(tmp_path):
    file = tmp_path / "corrections.csv"
    corrections.update(file, rows(row("a", sha256="0"), row("b")))
    assert corrections.update(file, remove=("a", "0")).path.tolist() == ["b"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "path;label\na;b\n",
            "the columns path, sha256, label, verdict, who, when, separated by commas; missing: path",
        ),
        ("path,sha256,label,verdict,who,when\na,0,b,maybe,x,y\n", "must be one of keep, relabel, exclude, second"),
        ("path,sha256,label,verdict,who,when\na,0,,relabel,x,y\n", "a must have the label of a character, not ''."),
        (
            "path,sha256,label,verdict,who,when\na,0,../b,second,x,y\n",
            "a must have the label of a character, not '../b'",
        ),
        ("path,sha256,label,verdict,who,when\na,0,b\0c,relabel,x,y\n", "a must have the label of a character, not"),
        ("path,sha256,label,verdict,who,when\na,0,Train,relabel,x,y\n", "a must have the label of a character, not"),
        ("", "is no table of corrections"),
        (
            'path,sha256,label,verdict,who,when\na,0,b,keep,x,"y\nb,1,bart,keep,x,y\n',
            "cannot be read as a table of corrections",
        ),
        (
            "path,sha256,label,verdict,who,when\na,0,b,keep,x,y\na,0,b,keep,x,y,z\n",
            "line 3 has more fields than the first one",
        ),
        ("path,sha256,label,verdict,who,when\na,0,b,keep,x,y\nb,1,bart", "the row of b ends before its verdict"),
        ("path,sha256,label,verdict,who,when\na,0,b,keep,x,y\nb,1,bart,", "the row of b ends before its verdict"),
        ("path,sha256,label\na,0,b\n".encode("utf-16"), "separated by commas, in UTF-8."),
    ],
)
def test_a_damaged_file_is_named(tmp_path, text, says):
    file = tmp_path / "corrections.csv"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=r"corrections\.csv") as problem:
        corrections.read(file)
    assert says in str(problem.value)


def test_what_a_visitor_of_the_page_said_is_no_label_of_an_excluded_picture():
    text = "path,sha256,label,verdict,who,when\na,0,Who is this?,exclude,page,y\nb,1,bart,keep,page,y\n"
    assert corrections.from_text(text, "answers.csv").label.tolist() == ["", "bart"]


def test_a_file_that_is_too_large_or_none_is_refused(tmp_path, monkeypatch):
    file = tmp_path / "corrections.csv"
    corrections.update(file, rows(row("a")))
    monkeypatch.setattr(corrections, "MAX_BYTES", 50)
    for path, says in ((file, "it is larger than 0 MB"), (tmp_path, "it is not a regular file")):
        with pytest.raises(UserError, match=f"cannot be read as a table of corrections: {says}"):
            corrections.read(path)


def test_a_comma_at_the_end_of_each_row_shifts_no_column(tmp_path):
    lines = [",".join(corrections.COLUMNS), *("a.png,0,bart,keep,,2026-01-01,", "b.png,1,bart,keep,me,2026-01-01,")]
    (tmp_path / "corrections.csv").write_text("\n".join(lines))
    found = corrections.read(tmp_path / "corrections.csv")
    assert found[["path", "label", "verdict", "who"]].to_numpy().tolist() == [
        ["a.png", "bart", "keep", ""], ["b.png", "bart", "keep", "me"]
    ]  # fmt: skip


def test_rows_that_are_longer_by_more_than_a_comma_are_named(tmp_path):
    lines = [",".join(corrections.COLUMNS), "a.png,0,bart,keep,me,2026-01-01,,", "b.png,1,bart,keep,me,2026-01-01,,"]
    (tmp_path / "corrections.csv").write_text("\n".join(lines))
    with pytest.raises(UserError, match="line 2 has more fields than the first one"):
        corrections.read(tmp_path / "corrections.csv")


def test_corrections_of_the_page_find_their_pictures_by_digest():
    table = pd.DataFrame({"path": ["bart/1.png", "lisa/2.png"], "character": ["bart", "lisa"], "sha256": ["11", "22"]})
    page = rows(row("1.png", "relabel", "lisa", sha256="11"), row("2.png", "relabel", "lisa", sha256="22"))
    found = corrections.of_pictures(pd.concat([page, rows(row("3.png", sha256="33"))]), table)
    assert found[["path", "verdict"]].to_numpy().tolist() == [["bart/1.png", "relabel"], ["lisa/2.png", "keep"]]


def test_corrections_from_elsewhere_are_about_the_very_picture():
    table = pd.DataFrame({"path": ["bart/1.png", "lisa/2.png"], "character": ["bart", "lisa"], "sha256": "11"})
    both = rows(row("bart/1.png", sha256="11"), row("lisa/2.png", "exclude", "", sha256="11"))
    found = corrections.of_pictures(both, table)  # copies of one another
    assert found[["path", "verdict"]].to_numpy().tolist() == [["bart/1.png", "keep"], ["lisa/2.png", "exclude"]]
    another = rows(row("bart/1.png", "exclude", "", sha256="22"))  # a picture of that name in another source
    assert corrections.of_pictures(another, table).empty


def test_a_kept_label_that_is_not_said_is_that_of_the_manifest(tmp_path):
    table = pd.DataFrame({"path": ["bart/1.png"], "character": ["bart"], "sha256": ["11"]})
    found = corrections.of_pictures(rows(row("bart/1.png", label="")), table)
    assert found[["label", "verdict", "sha256"]].to_numpy().tolist() == [["bart", "keep", "11"]]
    corrections.update(tmp_path / "corrections.csv", found)
    assert len(corrections.read(tmp_path / "corrections.csv")) == 1


def test_the_preparation_applies_them_and_the_manifest_says_so(tmp_path, capsys):
    raw, file = write_two_characters(tmp_path / "raw"), tmp_path / "corrections.csv"
    decided = [("bart/00.png", "relabel", "lisa"), ("bart/01.png", "exclude", ""), ("bart/02.png", "second", "lisa")]
    decided = [row(*each, sha256=records.file_sha256(raw / each[0])) for each in decided]
    others = [row("a\x1b[2J/09.png", "exclude", ""), row("bart/05.png", "relabel", "lisa", sha256="0")]
    corrections.update(file, rows(*decided, *others))
    table = prepare(raw, tmp_path / "processed", corrected=corrections.read(file)).set_index("path")
    assert table.character["bart/00.png"] == "lisa" and table.label_before["bart/00.png"] == "bart"
    assert table.exclusion_reason["bart/01.png"] == dataset.REVIEWED
    assert table.character["bart/02.png"] == "bart" and table.second_character["bart/02.png"] == "lisa"
    assert table.verdict["lisa/03.png"] == ""
    # Nor is a picture relabelled that was another one when a person looked at it.
    assert table.verdict["bart/05.png"] == "" and table.character["bart/05.png"] == "bart"
    said = capsys.readouterr().out
    assert "2 of 5 corrections are about pictures that are not here" in said and "a\\x1b[2J/09.png" in said
    assert "empty the column sha256" in said
    data = dataset.load(tmp_path / "processed")
    assert dataset.counts(data.table).sum(axis=1).to_dict() == {"bart": 18, "lisa": 21}  # 20 - 2, 20 + 1


@pytest.mark.parametrize("split", ["grouped", "random"])
def test_corrections_move_no_other_picture_to_another_split(tmp_path, split):
    raw = write_two_characters(tmp_path / "raw")
    before = prepare(raw, tmp_path / "before", split=split).set_index("path")
    # The first two are corrected, the others get a character that the source does not have.
    decided = [row("bart/00.png", "relabel", "lisa"), row("lisa/01.png", "exclude", "")]
    new = [f"{name}/{number:02}.png" for name in ("bart", "lisa") for number in range(10, 14)]
    corrected = rows(*decided, *(row(path, "relabel", "milhouse") for path in new))
    after = prepare(raw, tmp_path / "after", corrected=corrected, split=split).set_index("path")
    same = after.index.difference([*new, "lisa/01.png"])
    assert after.split[same].tolist() == before.split[same].tolist()
    assert after.split["lisa/01.png"] == "" and set(after.split[new]) == {"train", "validation", "test"}


def test_what_cannot_be_divided_by_the_labels_of_the_source_is_divided_by_the_corrected_ones(tmp_path):
    raw = write_two_characters(tmp_path / "raw")
    for picture in (raw / "lisa").iterdir():  # one character alone
        picture.rename(raw / "bart" / f"lisa-{picture.name}")
    corrected = rows(*(row(f"bart/lisa-{number:02}.png", "relabel", "lisa") for number in range(20)))
    table = prepare(raw, tmp_path / "processed", corrected=corrected)
    assert dataset.counts(table).to_numpy().tolist() == [[14, 3, 3]] * 2


def test_a_correction_without_a_digest_is_about_what_has_its_path():
    table = pd.DataFrame({"path": ["bart/1.png"], "character": "bart", "sha256": ["11"]})
    by_hand = rows(row("bart/1.png", "relabel", "lisa"))
    assert corrections.apply(table, by_hand).character.tolist() == ["lisa"]
    assert corrections.of_each(table, by_hand).verdict.tolist() == ["relabel"]
    assert corrections.about(table, by_hand).sha256.tolist() == ["11"]


def test_a_label_that_differs_by_case_and_spaces_alone_makes_no_second_character():
    table = pd.DataFrame({"path": ["a/1.png", "b/1.png"], "character": ["homer_simpson", "lisa"], "sha256": ["1", "2"]})
    with pytest.raises(UserError, match="label 'Homer Simpson', which differs from 'homer_simpson' by case"):
        corrections.apply(table, rows(row("b/1.png", "relabel", "Homer Simpson")))


def test_a_link_to_a_shared_file_stays_a_link(tmp_path):
    (tmp_path / "mine.csv").symlink_to(tmp_path / "shared.csv")
    corrections.update(tmp_path / "mine.csv", rows(row("a")))
    assert corrections.read(tmp_path / "shared.csv").path.tolist() == ["a"]


def test_without_corrections_the_manifest_has_no_columns_of_them(tmp_path):
    table = prepare(write_two_characters(tmp_path / "raw"), tmp_path / "processed")
    assert list(table) == list(dataset.COLUMNS)
