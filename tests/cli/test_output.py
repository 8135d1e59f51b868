"""What commands print is what was given to them."""

from cli.output import out, print_table, say, step_progress


def test_names_in_brackets_are_printed_as_they_are(capsys):
    print_table(["name"], [["cats [v2].zip"]])
    out.print("cats [v3].zip")
    say("cats [v4].zip")
    with step_progress() as progress:
        progress.add_task("cats [v5].zip", total=1)

    printed = capsys.readouterr()
    for number, text in enumerate([printed.out, printed.out, printed.err, printed.err]):
        assert f"cats [v{2 + number}].zip" in text
