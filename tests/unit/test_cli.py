"""The command line against a scripted api: what it sends, what it says, how it ends."""

import importlib.metadata
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import typer
from PIL import Image

from cli import documents, follow, main
from cli.client import connect
from cli.csv_file import write_csv
from cli.failure import CommandError
from cli.options import LOCAL_URL
from cli.render import duration, make_console, totals_line
from cli.source import resolve_source
from cli.totals import totals_of
from pipeline.base import states

Answer = httpx.Response | Exception


def job(state="succeeded", total=10, embedded=10, unchanged=0, rejected=0, **more):
    return {
        "id": "j1",
        "state": state,
        "total": total,
        "embedded": embedded,
        "unchanged": unchanged,
        "rejected": rejected,
        "images_per_second": None,
        "eta_seconds": None,
        "created_at": "2026-01-02T03:04:05Z",
        "finished_at": None,
        "error": None,
        "notice": None,
        **more,
    }


def hit(image_id, score, **payload):
    return {
        "image_id": image_id,
        "point_id": "p",
        "score": score,
        "payload": {"image_id": image_id, **payload},
        "preview_url": "/preview",
    }


def answer(body, status=200, **headers):
    return httpx.Response(status, json=body, headers=headers)


def problem(status, title, detail):
    return answer({"type": "x", "title": title, "status": status, "detail": detail}, status)


class ScriptedApi:
    """Answers each call with the next of its route's answers; the last one is repeated."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self._routes: dict[str, list[Answer]] = {}

    def on(self, route: str, *answers: Answer) -> None:
        self._routes[route] = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.requests.append(request)
        answers = self._routes[f"{request.method} {request.url.path}"]
        given = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(given, BaseException):
            raise given
        return given

    def sent(self, number: int = 0) -> dict:
        return json.loads(self.requests[number].content)


@pytest.fixture
def api(monkeypatch) -> ScriptedApi:
    scripted = ScriptedApi()
    monkeypatch.setattr(follow, "POLL_SECONDS", 0)
    monkeypatch.setenv("KINDRED_API_KEY", "secret")
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", lambda _, sent: scripted(sent))
    return scripted


@pytest.fixture
def kindred(capsys) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.run(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def fails_with_one_line(result: tuple[int, str, str], code: int = 1) -> str:
    ended, out, err = result
    assert ended == code
    assert err.startswith("kindred: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    return err


# --- ingest --------------------------------------------------------------------------------------


def test_options_of_archives_are_refused_elsewhere(kindred):
    line = fails_with_one_line(kindred("ingest", "org/name", "--modality", "CR"), 2)
    assert "--modality has a meaning for dicomweb:// alone" in line


def test_ingest_follows_the_job_and_ends_with_its_totals(api, kindred):
    api.on("POST /v1/jobs", answer(job("planning", None, 0), 202))
    api.on(
        "GET /v1/jobs/j1",
        answer(job("running", 10, 4, images_per_second=8.0, eta_seconds=1.0)),
        answer(job("completed_with_rejections", 10, 7, 2, 1)),
    )
    rejected = {"image_id": "img-7", "row": 7, "reason": "truncated file"}
    api.on("GET /v1/jobs/j1/rejections", answer({"rejections": [rejected], "cursor": None}))

    code, out, err = kindred("ingest", "owner/name", "--limit", "10")

    assert (code, err) == (3, "")
    assert api.sent() == {"dataset": "owner/name", "limit": 10}
    assert api.requests[0].headers["Authorization"] == "Bearer secret"
    assert "10 = 7 embedded + 2 unchanged + 1 rejected" in out
    assert "rejected: row 7, img-7: truncated file" in out


def test_only_the_first_rejections_are_shown_with_the_way_to_the_others(api, kindred):
    api.on("POST /v1/jobs", answer(job("completed_with_rejections", 10, 3, 0, 7), 202))
    rejected = [{"image_id": f"k{n}", "row": n, "reason": "broken"} for n in range(7)]
    api.on("GET /v1/jobs/j1/rejections", answer({"rejections": rejected, "cursor": None}))

    _, out, _ = kindred("ingest", "owner/name")

    assert out.count("rejected: row") == 5
    assert "… and 2 more: kindred jobs rejections j1" in out


def test_with_json_the_output_is_one_document_and_nothing_else(api, kindred):
    api.on("POST /v1/jobs", answer(job("planning", None, 0), 202))
    api.on("GET /v1/jobs/j1", answer(job("running")), answer(job()))

    code, out, err = kindred("ingest", "owner/name", "--json")

    assert (code, err) == (0, "")
    assert json.loads(out) == job()


def test_a_failed_job_makes_the_command_fail_with_its_reason(api, kindred):
    error = {"type": "t", "title": "The source cannot be read", "status": 422, "detail": "no x"}
    api.on("POST /v1/jobs", answer(job("failed", None, 0, error=error), 202))

    err = fails_with_one_line(kindred("ingest", "owner/name"))

    assert err == "kindred: job j1 has failed: The source cannot be read: no x\n"


def test_a_cancelled_job_shows_how_far_it_came(api, kindred):
    api.on("POST /v1/jobs", answer(job("cancelled", 10, 4), 202))

    code, out, err = kindred("ingest", "owner/name")

    assert code == 1
    assert "cancelled: 4 embedded + 0 unchanged + 0 rejected, of 10" in out
    assert err == "kindred: job j1 was cancelled\n"


def test_ctrl_c_leaves_the_job_and_says_how_to_find_it(api, kindred):
    api.on("POST /v1/jobs", answer(job("running"), 202))
    api.on("GET /v1/jobs/j1", KeyboardInterrupt())

    code, _, err = kindred("ingest", "owner/name")

    assert code == 130
    assert "kindred jobs show j1" in err
    assert "kindred jobs cancel j1" in err


def test_following_outlives_an_api_that_is_unavailable_for_a_moment(api, kindred):
    api.on("POST /v1/jobs", answer(job("running"), 202))
    api.on(
        "GET /v1/jobs/j1",
        httpx.ConnectError("refused"),
        problem(503, "Redis is away", "try again"),
        answer(job()),
    )

    code, out, _ = kindred("ingest", "owner/name")

    assert code == 0
    assert "10 = 10 embedded" in out


def test_detached_says_how_to_follow(api, kindred):
    api.on("POST /v1/jobs", answer(job("planning", None, 0), 202))

    code, out, _ = kindred("ingest", "owner/name", "--detach")

    assert code == 0
    assert "kindred jobs follow j1" in out
    assert len(api.requests) == 1


def test_a_local_folder_is_sent_absolute(api, kindred, tmp_path, monkeypatch):
    (tmp_path / "scans").mkdir()
    monkeypatch.chdir(tmp_path)
    api.on("POST /v1/jobs", answer(job(), 202))

    kindred("ingest", "scans", "--split", "test")

    assert api.sent() == {"dataset": str(tmp_path / "scans"), "split": "test"}


def test_another_kind_of_source_is_described_field_by_field(api, kindred):
    api.on("POST /v1/jobs", answer(job(), 202))
    given = ("file=/srv/a=b.txt", "limit=5", "name=007", 'tags=["a", 1]')

    code, _, _ = kindred("ingest", "--kind", "list", *(w for one in given for w in ("--set", one)))

    assert code == 0
    fields = {"file": "/srv/a=b.txt", "limit": 5, "name": "007", "tags": ["a", 1]}
    assert api.sent() == {"kind": "list", **fields}


@pytest.mark.parametrize("text", ["mnist", "marmal88/skin_cancer", "owner/name-1.0"])
def test_what_is_not_here_and_could_be_a_hub_id_is_one(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_source(text, same_machine=True) == text


@pytest.mark.parametrize(
    "text", ["./a", "/no/such", "a/b/c", "images/", "rows.parquet", "~/no-such"]
)
def test_a_path_that_is_not_here_is_refused(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match=re.escape(f"no such file or folder: {text}")):
        resolve_source(text, same_machine=True)


def test_an_absolute_path_can_be_one_of_the_workers_machine():
    assert resolve_source("/no/such", same_machine=False) == "/no/such"


def test_a_hub_id_that_exists_here_is_local(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert resolve_source("owner/name", same_machine=True) == str(tmp_path / "owner" / "name")


def test_following_a_job_that_ended_with_rejections_is_exit_code_3(api, kindred):
    api.on("GET /v1/jobs/j1", answer(job("completed_with_rejections", 10, 9, 0, 1)))
    rejected = {"image_id": "img-7", "row": 7, "reason": "truncated file"}
    api.on("GET /v1/jobs/j1/rejections", answer({"rejections": [rejected], "cursor": None}))

    code, out, err = kindred("jobs", "follow", "j1")

    assert (code, err) == (3, "")
    assert "img-7: truncated file" in out


def test_the_outcomes_are_those_that_the_api_names(api, kindred):
    counts = {"updated": 3, "embedded": 5}  # as Redis has them: in no order, and without zeros
    api.on("POST /v1/jobs", answer(job(total=8, counts=counts, final=True), 202))

    _, out, _ = kindred("ingest", "owner/name")

    assert "8 = 5 embedded + 0 unchanged + 0 rejected + 3 updated" in out


def test_a_deletion_among_the_jobs_has_its_own_outcome(api, kindred):
    gone = job(total=2, embedded=0, operation="delete", counts={"deleted": 2}, final=True)
    api.on("GET /v1/jobs/j1", answer(gone))

    code, out, _ = kindred("jobs", "show", "j1")

    assert code == 0
    assert "2 = 2 deleted" in out.splitlines()


def test_the_final_states_are_those_of_the_pipeline():
    assert documents.FINAL_STATES == states.FINAL_STATES


def test_the_api_says_whether_a_job_is_final(api, kindred):
    api.on("POST /v1/jobs", answer(job("succeeded", final=False), 202))
    api.on("GET /v1/jobs/j1", answer(job("verified", final=True)))

    code, out, _ = kindred("ingest", "owner/name", "--json")

    assert code == 0
    assert json.loads(out)["state"] == "verified"


# --- search and images ---------------------------------------------------------------------------


def test_search_shows_neighbours_without_the_columns_that_none_has(api, kindred):
    found = [hit("a", 0.98765, dx="melanoma", age=45.0), hit("b", 0.5, age=57.5)]
    api.on("POST /v1/searches", answer({"id": "s", "state": "succeeded", "results": found}))

    code, out, _ = kindred("search", "--id", "x/y", "--filter", '{"must": []}', "--limit", "2")

    assert code == 0
    assert api.sent() == {"image_id": "x/y", "filter": {"must": []}, "limit": 2}
    assert api.requests[0].headers["Prefer"] == "wait=10"
    lines = [line.split() for line in out.splitlines() if line.strip(" ─━")]
    assert lines == [
        ["score", "dx", "age", "image", "id"],
        ["0.9877", "melanoma", "45", "a"],
        ["0.5000", "57.5", "b"],
    ]


def side(image_id=None, weights=(1.0, 0.0)):
    seen = {"left": 0, "top": 0, "width": 1, "height": 1}
    rest = {"rows": 1, "columns": 2, "weights": [*weights], "counterparts": [0, 0]}
    return {"image_id": image_id, "seen": seen, **rest}


def explanation():
    halves = [{"left": n / 2, "top": 0, "width": 0.5, "height": 1} for n in (0, 1)]
    match = {"first": halves[0], "second": halves[1], "similarity": 0.87654, "mutual": True}
    answered = {"first": side(), "second": side("b", (0.0, 1.0)), "matches": [match]}
    return {"id": "e", "state": "succeeded", "error": None, **answered}


def jpeg(colour, size=(600, 300)):
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "JPEG")
    return httpx.Response(200, content=out.getvalue())


def test_explain_names_the_matching_parts_and_draws_them(api, kindred, tmp_path):
    scan, drawn = tmp_path / "Jane Doe.dcm", tmp_path / "why.png"
    scan.write_bytes(b"pixels")
    api.on("POST /v1/explanations", answer(explanation()))
    api.on("POST /v1/renderings", jpeg("white"))
    api.on("GET /v1/images/b/preview", jpeg("white", (300, 300)))
    crop = ("--crop", "0,0,0.5,1")

    code, out, err = kindred(
        "explain", str(scan), "--id", "b", "--frame", "3", *crop, "--save", str(drawn)
    )

    assert (code, err) == (0, "")
    assert "0.8765" in out and "25% from the left, 50% from the top" in out
    asked, rendered = (request.content for request in api.requests[:2])
    whole = {"left": 0.0, "top": 0.0, "width": 0.5, "height": 1.0}
    query = {"first": {"frame": 3, "crop": whole}, "second": {"image_id": "b"}, "limit": 30}
    assert json.dumps(query).encode() in asked and b'{"frame": 3}' in rendered
    assert not any(b"Jane" in request.content for request in api.requests)
    with Image.open(drawn) as both:
        assert both.size == (1024 + 24 + 512, 512)
        bright, dark = (both.getpixel(at)[0] for at in ((100, 100), (900, 100)))
        assert bright == 255 and dark == 51  # the left half matches, a fifth is left of the right
        assert both.getpixel((1024 + 24 + 100, 100))[0] == 51


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "two pictures"),
        (("--id", "a"), "two pictures"),
        (("--id", "a", "--id", "b", "--id", "c"), "two pictures"),
        (("--id", "a", "--id", "b", "--frame", "2"), "DICOM file"),
    ],
)
def test_explain_needs_two_pictures(api, kindred, arguments, said):
    code, _, err = kindred("explain", *arguments)
    assert (code, api.requests) == (2, [])
    assert said in err


def test_an_encoder_without_patches_is_one_line(api, kindred):
    error = {"type": "conflict", "title": "Impossible", "status": 409, "detail": "No patches."}
    api.on("POST /v1/explanations", answer({"id": "e", "state": "failed", "error": error}))
    code, _, err = kindred("explain", "--id", "a", "--id", "b")
    assert (code, err) == (1, "kindred: Impossible: No patches.\n")


def test_words_count_beside_an_image(api, kindred):
    api.on("POST /v1/searches", answer({"id": "s", "state": "succeeded", "results": []}))
    kindred("search", "--id", "a", "--text", "a mole", "--text-weight", "0.3")
    assert api.sent() == {"image_id": "a", "text": "a mole", "text_weight": 0.3, "limit": 10}
    assert kindred("search", "--id", "a", "--text", "a mole")[0] == 2
    assert kindred("search", "--id", "a", "--text-weight", "0.3")[0] == 2
    assert kindred("search", "--text", "a mole", "--text-weight", "0.3")[0] == 2


BASIS = {"label": "dx", "evaluation": "e1", "created_at": "2026-11-01T12:00:00Z"}


def test_a_search_says_how_close_its_hits_are_and_whether_none_is(api, kindred):
    closeness = {"share": 0.72, "low": 0.631, "high": 0.8, "neighbours": 300, "label": None}
    found = [
        {**hit("a", 0.9, dx="nevus"), "closeness": closeness, "close": False},
        {**hit("b", 0.1), "close": False},
    ]
    said = {"id": "s", "state": "succeeded", "results": found, "closeness": BASIS}
    api.on("POST /v1/searches", answer({**said, "no_close_match": True}))

    code, out, _ = kindred("search", "--id", "x", "--min-closeness", "0.75")

    assert code == 0
    assert api.sent() == {"image_id": "x", "min_closeness": 0.75, "limit": 10}
    assert "72% (63 to 80), not close" in out
    assert "0.1000   not close" in out
    assert "the share with the searched image's dx" in out
    assert "evaluation e1, 2026-11-01" in out
    assert "no close match: none reaches 75%" in out


def test_a_worker_that_knows_no_closeness_is_named(api, kindred):
    said = {"id": "s", "state": "succeeded", "results": [hit("a", 0.9)]}
    api.on("POST /v1/searches", answer(said))
    assert "may be older" in kindred("search", "--id", "x", "--min-closeness", "0.5")[1]
    assert "close" not in kindred("search", "--id", "x")[1]


def test_each_search_of_a_batch_says_whether_none_is_close(api, kindred, tmp_path):
    said = {"state": "succeeded", "results": [[], [hit("a", 0.9)]], "no_close_match": [None, True]}
    api.on("POST /v1/searches/batch", answer(said))
    (tmp_path / "searches.json").write_text("[{}, {}]")
    out = kindred("batch", str(tmp_path / "searches.json"))[1]
    assert out.count("no close match") == 1


def test_search_by_a_file_does_not_tell_its_name(api, kindred, tmp_path):
    scan = tmp_path / "Jane Doe.PNG"
    scan.write_bytes(b"pixels")
    api.on("POST /v1/searches", answer({"id": "s", "state": "succeeded", "results": []}))

    code, out, _ = kindred("search", str(scan), "--threshold", "0.9", "--exact")

    assert (code, out) == (0, "no images\n")
    body = api.requests[0].content
    assert b"pixels" in body
    assert b'name="image"; filename="image.png"' in body
    assert b'"score_threshold": 0.9' in body
    assert b'"exact": true' in body
    assert b"Jane" not in body


def test_a_search_that_takes_longer_is_fetched_when_it_is_done(api, kindred):
    waiting = {"id": "s", "state": "queued", "results": None}
    api.on("POST /v1/searches", answer(waiting, 202, **{"Retry-After": "0"}))
    api.on(
        "GET /v1/searches/s", answer({**waiting, "state": "succeeded", "results": [hit("a", 1)]})
    )

    code, out, _ = kindred("search", "--text", "a dark mole", "--json")

    assert code == 0
    assert json.loads(out)["results"][0]["image_id"] == "a"


def test_a_failed_search_is_one_line(api, kindred):
    error = {"type": "t", "title": "Not found", "status": 404, "detail": "no image is held\nas x"}
    api.on("POST /v1/searches", answer({"id": "s", "state": "failed", "error": error}))

    err = fails_with_one_line(kindred("search", "--id", "x"))

    assert err == "kindred: Not found: no image is held as x\n"


def test_what_a_data_set_says_cannot_steer_the_terminal(api, kindred):
    found = [hit("a", 1.0, dx="\x1b[2J[red]gone")]
    api.on("POST /v1/searches", answer({"id": "s", "state": "succeeded", "results": found}))

    _, out, _ = kindred("search", "--id", "x")

    assert "\x1b" not in out
    assert "[red]gone" in out


def test_images_are_listed_with_the_way_to_the_next_page(api, kindred):
    image = {"image_id": "a", "point_id": "p", "payload": {"sex": "female"}, "preview_url": "u"}
    api.on("GET /v1/images", answer({"images": [image], "cursor": "c1"}))

    code, out, _ = kindred("images", "list", "--limit", "1", "--filter", "{}")

    assert code == 0
    assert dict(api.requests[0].url.params) == {"limit": "1", "filter": "{}"}
    assert "female" in out
    assert "--cursor c1" in out


def test_a_call_that_is_put_off_is_repeated_with_its_picture(api, kindred, tmp_path):
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(b"a picture")
    busy = problem(429, "Too many calls", "Go on in 1 seconds.")
    busy.headers["Retry-After"] = "0"
    done = answer({"id": "s1", "state": "succeeded", "results": [hit("A", 1.0)]})
    api.on("POST /v1/searches", busy, done)

    code, out, _ = kindred("search", str(picture))

    assert code == 0
    assert "A" in out
    assert b"a picture" in api.requests[0].content
    assert b"a picture" in api.requests[1].content


def test_who_has_no_key_is_told_where_it_belongs(api, kindred):
    api.on("GET /v1/jobs", problem(401, "A key is needed", "Send a key."))

    assert "KINDRED_API_KEY" in fails_with_one_line(kindred("jobs", "list"))


def test_one_image_is_shown_with_all_that_is_known(api, kindred):
    payload = {"image_id": "a/b", "age": 45.0, "sex": None}
    image = {"image_id": "a/b", "point_id": "p", "payload": payload, "preview_url": "u"}
    api.on("GET /v1/images/a/b", answer(image))

    code, out, _ = kindred("images", "show", "a/b")

    assert code == 0
    assert api.requests[0].url.raw_path == b"/v1/images/a%2Fb"
    assert sorted(out.splitlines()) == ["age: 45", "image_id: a/b", "point_id: p"]


# --- deletions -----------------------------------------------------------------------------------


def deletion(state="succeeded", **more):
    return {"id": "d1", "state": state, "total": 3, "deleted": 0, "error": None,
            "count": None, "image_ids": None, **more}  # fmt: skip


def evaluation(state="succeeded", **more):
    estimate = {"value": 0.5, "low": 0.4, "high": 0.6}
    metrics = {"precision_at_1": estimate, "balanced_accuracy": {"value": None, "low": None,
               "high": None}}  # fmt: skip
    classes = [{"label": "melanoma", "images": 3, "held": 4, "metrics": metrics}]
    ranking = {"name": "embedding", "overall": metrics, "macro": metrics, "classes": classes}
    report = {
        "id": "e1",
        "images": 4,
        "evaluated": 3,
        "groups": 2,
        "left_out": {"no label": 1},
        "rankings": [ranking, {**ranking, "name": "chance"}],
        "same_group": {"recall_at_1": estimate, "any_at_1": estimate},
        "near_duplicates": {"pairs": 2, "images": 4, "other_label": 1, "treatment": "leave_out"},
        "notes": ["Of the collection, only images that match a filter."],
        "seconds": {"read": 1.5},
    }
    return {"id": "e1", "state": state, "total": 3, "counts": {}, "report": report, **more}


def test_an_evaluation_is_followed_to_its_table(api, kindred):
    api.on("POST /v1/evaluations", answer(evaluation("planning", total=None), 202))
    api.on("GET /v1/evaluations/e1", answer(evaluation("running")), answer(evaluation()))

    code, out, err = kindred("evaluate", "--label", "dx", "--group", "lesion_id")

    assert (code, err) == (0, "")
    assert json.loads(api.requests[0].content) == {
        "label": "dx",
        "group": "lesion_id",
        "seed": 0,
        "baseline": True,
        "near_duplicates": "leave_out",
    }
    assert "3 of 4 images searched by, in 2 groups" in out
    assert "left out: 1 no label" in out
    assert "2 pairs of near-duplicates in different groups, 1 with two labels: left out" in out
    for line in ("embedding, overall", "embedding, macro", "melanoma", "chance, overall"):
        assert line in out
    assert "0.500 (0.400 to 0.600)" in out
    assert "only images that match a filter" in out

    api.on("GET /v1/evaluations/e1", answer(evaluation()))
    code, out, _ = kindred("evaluate", "--show", "e1", "--json")
    assert (code, json.loads(out)["id"]) == (0, "e1")


def test_an_earlier_comparison_is_shown_as_an_evaluation_is(api, kindred):
    missing = answer({"title": "Not found", "detail": "There is no such evaluation."}, 404)
    number = {"value": 0.5, "low": 0.4, "high": 0.6}
    model = {
        "name": "collection",
        "untrained": False,
        "images_per_second": None,
        "weights_bytes": 10**6,
        "encoder": {"dimensions": 16, "pooling": "mean"},
        "ranking": {"overall": {"map_at_10": number}, "macro": {"map_at_10": number}},
    }
    report = {"id": "c1", "models": [model], "pairs": [], "notes": ["Of previews."]}
    done = {"id": "c1", "state": "succeeded", "total": 3, "counts": {}, "report": report}
    api.on("GET /v1/evaluations/c1", missing)
    api.on("GET /v1/comparisons/c1", answer(done))

    code, out, err = kindred("evaluate", "--show", "c1")

    assert (code, err) == (0, "")
    assert "0.500 (0.400 to 0.600)" in out and "Of previews." in out

    api.on("GET /v1/evaluations/c2", missing)
    api.on("GET /v1/comparisons/c2", answer({"title": "Not found", "detail": "None."}, 404))
    code, _, err = kindred("evaluate", "--show", "c2")
    assert code == 1 and "There is no such evaluation." in err


def test_an_evaluation_that_fails_says_why(api, kindred):
    problem = {"title": "Invalid query", "detail": "Say which field they share."}
    failed = evaluation("failed", error=problem, report=None)
    api.on("POST /v1/evaluations", answer(failed, 202))

    code, _, err = kindred("evaluate", "--label", "dx")

    assert code == 1
    assert "Say which field they share." in err
    assert kindred("evaluate")[0] == 2


def test_a_deletion_is_followed_to_its_end(api, kindred, tmp_path):
    gone = {"deleted": 3, "count": 3, "image_ids": ["a", "b", "c"]}
    api.on("POST /v1/deletions", answer(deletion("planning", total=None), 202))
    api.on(
        "GET /v1/deletions/d1",
        answer(deletion("running", deleted=1)),
        answer(deletion("paused", deleted=1)),
        answer(deletion(**gone)),
    )
    receipt = tmp_path / "receipt.json"

    code, out, err = kindred("delete", "a", "b", "c", "--yes", "--receipt", str(receipt))

    assert (code, err) == (0, "")
    assert api.sent() == {"image_ids": ["a", "b", "c"]}
    assert "3 images deleted; `kindred undelete d1` lets them back in" in out
    assert json.loads(receipt.read_text())["image_ids"] == ["a", "b", "c"]
    assert len(api.requests) == 4


def test_ids_that_are_not_indexed_are_named(api, kindred):
    gone = {"deleted": 1, "count": 1, "image_ids": ["a"]}
    api.on("POST /v1/deletions", answer(deletion(**gone), 202))
    many = [f"n{number}" for number in range(21)]

    code, out, err = kindred("delete", "a", "mis\nspelt", "--yes", "--json")
    assert (code, json.loads(out)["count"]) == (0, 1)
    assert err == "not indexed, and kept away from now on: mis spelt\n"

    _, out, err = kindred("delete", "a", *many, "a", "--yes")
    assert "1 images deleted" in out
    assert err.endswith("n18, n19 and 1 more\n") and "a," not in err


def test_a_deletion_that_fails_leaves_no_receipt(api, kindred, tmp_path):
    error = {"type": "t", "title": "Invalid query", "status": 422, "detail": "no such field"}
    api.on("POST /v1/deletions", answer(deletion("failed", error=error), 202))
    receipt = tmp_path / "receipt.json"

    err = fails_with_one_line(
        kindred("delete", "--same", "x_id=1", "--yes", "--receipt", str(receipt))
    )

    assert err == "kindred: deletion d1 has failed: Invalid query: no such field\n"
    assert not receipt.exists()


def test_ctrl_c_leaves_the_deletion_and_says_so(api, kindred):
    api.on("POST /v1/deletions", answer(deletion("running"), 202))
    api.on("GET /v1/deletions/d1", KeyboardInterrupt())

    code, _, err = kindred("delete", "a", "--yes")

    assert code == 130
    assert "deletion d1 goes on" in err


def test_where_nobody_can_confirm_yes_is_needed(api, kindred, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))

    assert "--yes" in fails_with_one_line(kindred("delete", "a"), code=2)
    assert api.requests == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "code"), [("n\n", 1), ("", 130)])
def test_without_a_yes_nothing_is_deleted(api, kindred, monkeypatch, typed, code):
    monkeypatch.setattr("sys.stdin", Terminal(typed))

    ended, _, _ = kindred("delete", "a")

    assert ended == code
    assert api.requests == []


def test_a_deletion_is_undone(api, kindred):
    api.on("POST /v1/deletions/d1/lift", answer(deletion(count=3)))

    code, out, _ = kindred("undelete", "d1")

    assert (code, out) == (0, "3 images may be ingested again\n")


# --- collections ---------------------------------------------------------------------------------


def test_collections_are_listed_and_shown(api, kindred):
    collections = [
        {"name": "skin", "default": True, "workers": 2},
        {"name": "chest", "default": False, "workers": 0},
    ]
    api.on("GET /v1/collections", answer({"collections": collections}))
    api.on("GET /v1/collections/chest/collection", answer({"count": 7, "encoder": {"model": "m"}}))

    code, out, _ = kindred("collections", "list")

    assert code == 0
    rows = [line.split() for line in out.splitlines() if line.strip(" ─━")]
    assert rows == [["name", "workers", "default"], ["skin", "2", "yes"], ["chest", "0"]]
    assert kindred("collections", "show", "chest")[1] == "count: 7\nencoder.model: m\n"
    assert json.loads(kindred("collections", "--json")[1])["collections"] == collections


REPORT = {
    "files": 2, "frames": 3, "refused": 1, "quarantined": 0, "kept": {"Modality": 2},
    "dropped": {"PatientName": 2}, "skipped": {"dicom sr": 1},
}  # fmt: skip
IN_A_COLLECTION = [
    (("ingest", "owner/name"), "POST", "jobs", job()),
    (("search", "--id", "x"), "POST", "searches", {"state": "succeeded", "results": []}),
    (("batch", "searches.json"), "POST", "searches/batch", {"state": "succeeded", "results": []}),
    (
        ("explain", "--id", "a", "--id", "b"),
        "POST",
        "explanations",
        {"state": "succeeded", "matches": []},
    ),
    (("deidentify-report", "j1"), "GET", "jobs/j1/deidentification", REPORT),
    (("pseudonyms", "rotate", "--yes"), "POST", "pseudonyms/rotate", {"keys": 2}),
    (("facets",), "GET", "facets", {"count": 0, "ranges": {}, "facets": {}}),
    (("jobs", "list"), "GET", "jobs", {"jobs": []}),
    (("jobs", "show", "j1"), "GET", "jobs/j1", job()),
    (("jobs", "follow", "j1"), "GET", "jobs/j1", job()),
    (("jobs", "rejections", "j1"), "GET", "jobs/j1/rejections", {"rejections": []}),
    (("jobs", "skipped", "j1"), "GET", "jobs/j1/skipped", {"skipped": []}),
    (("jobs", "cancel", "j1"), "POST", "jobs/j1/cancel", job()),
    (("jobs", "pause", "j1"), "POST", "jobs/j1/pause", job()),
    (("jobs", "resume", "j1"), "POST", "jobs/j1/resume", job()),
    (("jobs", "retry", "j1"), "POST", "jobs/j1/retry", job()),
    (("images", "list"), "GET", "images", {"images": [], "cursor": None}),
    (("images", "show", "a"), "GET", "images/a", hit("a", 1.0)),
    (("images", "export", "vectors"), "GET", "images", {"images": [], "cursor": None}),
    (("delete", "a", "--yes"), "POST", "deletions", deletion(count=1)),
    (("evaluate", "--label", "dx"), "POST", "evaluations", evaluation()),
    (("undelete", "d1"), "POST", "deletions/d1/lift", deletion(count=1)),
    (
        ("audit-labels", "--show", "a1", "--csv", "found.csv"),
        "GET",
        "label-audits/a1",
        {"id": "a1", "report": {}, "findings": {}},
    ),
    (("quarantine", "list"), "GET", "quarantine", {"images": [], "count": 0, "cursor": None}),
    (("quarantine", "show", "a"), "GET", "quarantine/a", {"image_id": "a", "rectangles": []}),
    (("quarantine", "release", "a"), "POST", "quarantine/release", job()),
    (
        ("quarantine", "mask", "a", "--rectangle", "0,0,9,9"),
        "POST",
        "quarantine/release",
        job(),
    ),
    (("quarantine", "refuse", "a", "--yes"), "POST", "quarantine/refuse", {"count": 1}),
    (("quarantine", "allow", "a"), "POST", "quarantine/allow", {"count": 1}),
]


@pytest.mark.parametrize(("arguments", "method", "path", "body"), IN_A_COLLECTION)
def test_a_collection_is_named_by_an_option_or_by_the_environment(
    api, kindred, monkeypatch, tmp_path, arguments, method, path, body
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "searches.json").write_text("[]")
    for prefix in ("/v1", "/v1/collections/chest x"):
        api.on(f"{method} {prefix}/{path}", answer(body))

    assert kindred(*arguments)[0] == 0
    shutil.rmtree("vectors", ignore_errors=True)  # an export wants a new folder each time
    assert kindred(*arguments, "--collection", "chest x")[0] == 0
    shutil.rmtree("vectors", ignore_errors=True)
    monkeypatch.setenv("KINDRED_COLLECTION", "chest x")
    assert kindred(*arguments)[0] == 0

    default, named, by_environment = [r.url.raw_path.split(b"?")[0] for r in api.requests]
    assert default == f"/v1/{path}".encode()
    assert named == by_environment == f"/v1/collections/chest%20x/{path}".encode()


def test_a_backup_is_of_the_collection(api):
    api.on("GET /v1/collections/chest/backup/ledger", httpx.Response(200, content=b"line"))
    with connect(LOCAL_URL, "chest") as client:
        assert b"".join(client.backup("ledger")) == b"line"


def test_a_search_that_fails_alone_in_a_batch_is_named_after_the_others(api, kindred, tmp_path):
    gone = {
        "type": "not-found",
        "title": "Not found",
        "status": 404,
        "detail": "There is no image y.",
    }
    found = {"state": "succeeded", "results": [[], None, []], "errors": [None, gone, None]}
    api.on("POST /v1/searches/batch", answer(found))
    (tmp_path / "searches.json").write_text("[{}, {}, {}]")

    code, out, err = kindred("batch", str(tmp_path / "searches.json"))

    assert code == 1
    assert out.count("no images") == 2
    assert "search 2: Not found: There is no image y." in err


# --- jobs ----------------------------------------------------------------------------------------


def test_jobs_are_listed(api, kindred):
    jobs = [
        job("running", 2000, 1500, images_per_second=12.34, eta_seconds=65),
        job("failed", None),
    ]
    api.on("GET /v1/jobs", answer({"jobs": jobs}))

    code, out, _ = kindred("jobs", "list")

    assert code == 0
    assert kindred("jobs") == (code, out, "")
    assert "12.3" in out
    assert "1:05" in out
    assert "2,000" in out


@pytest.mark.parametrize("action", ["cancel", "pause", "resume", "retry"])
def test_each_transition_of_a_job_is_a_command(api, kindred, action):
    api.on(f"POST /v1/jobs/j1/{action}", answer(job("paused")))

    code, out, _ = kindred("jobs", action, "j1", "--json")

    assert code == 0
    assert json.loads(out)["state"] == "paused"


def test_all_rejections_are_listed_page_by_page(api, kindred):
    pages = [
        {"rejections": [{"image_id": "a", "row": 1, "reason": "x"}], "cursor": 7},
        {"rejections": [{"image_id": "b", "row": 2, "reason": "y"}], "cursor": None},
    ]
    api.on("GET /v1/jobs/j1/rejections", *map(answer, pages))

    code, out, _ = kindred("jobs", "rejections", "j1", "--json")

    assert code == 0
    assert [r["image_id"] for r in json.loads(out)["rejections"]] == ["a", "b"]
    assert api.requests[1].url.params["cursor"] == "7"


# --- ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search",), "search for one of: image files or --like, --id, --text"),
        (("search", "a.png", "--id", "x"), "search for one of"),
        (("search", "--id", "x", "--filter", "{"), "--filter is not JSON"),
        (("search", "--id", "x", "--filter", "[]"), "not a JSON object"),
        (("search", "--id", "x", "--limit", "many"), "--limit"),
        (("search", "--id", "x", "--crop", "1,2"), "--crop takes LEFT,TOP,WIDTH,HEIGHT"),
        (("jobs", "cancel"), "Missing argument 'ID'"),
        (("jobs", "j1"), "No such command 'j1'"),
        (("jobs", "list", "--no-such"), "No such option: --no-such"),
        (("delete",), "delete one of: image ids, --same FIELD=VALUE, --filter"),
        (("delete", "--same", "lesion_id"), "--same takes FIELD=VALUE"),
        (("ingest", "a", "b"), "several files need --upload"),
        (("ingest", "--upload", ".", "--revision", "x"), "--revision has no meaning with --upload"),
        (("ingest", "--upload", ".", "--kind", "x"), "--kind has no meaning with --upload"),
        (("ingest", "--upload", ".", "--set", "x=1"), "--set has no meaning with --upload"),
        (("ingest", "--kind", "x", "scans"), "with --kind, describe the source by --set alone"),
        (("ingest", "--kind", "x", "--set", "limit"), "--set takes NAME=VALUE"),
        (("ingest",), "Missing argument 'SOURCE'"),
        (("ingest", "--upload"), "Missing argument 'SOURCE'"),
        (("frobnicate",), "No such command 'frobnicate'"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(api, kindred, arguments, message):
    assert message in fails_with_one_line(kindred(*arguments), code=2)
    assert api.requests == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search", "/no/such.png"), "/no/such.png cannot be read: No such file"),
        (("ingest", "--upload", "/no/such"), "no such file or folder: /no/such"),
    ],
)
def test_a_file_that_is_not_there_is_one_line(api, kindred, arguments, message):
    assert message in fails_with_one_line(kindred(*arguments))
    assert api.requests == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (httpx.ConnectError("refused"), "no Kindred answers at http://127.0.0.1:8000; start one"),
        (httpx.ReadTimeout("slow"), "did not answer in time"),
        (httpx.RemoteProtocolError("cut"), "the connection to http://127.0.0.1:8000 broke"),
        (problem(422, "Invalid query", "filter.must: bad"), "Invalid query: filter.must: bad"),
        (problem(503, "Redis is away", "try again"), "Redis is away: try again"),
        (httpx.Response(502, html="<h1>Bad gateway</h1>"), "answered 502 Bad Gateway"),
        (httpx.Response(200, html="<h1>Welcome</h1>"), "is not Kindred"),
    ],
)
def test_whatever_answers_a_failure_is_one_line(api, kindred, given, message):
    api.on("GET /v1/images", given)
    assert message in fails_with_one_line(kindred("images", "list", "--json"))


@pytest.mark.parametrize("url", ["nonsense", "ftp://host", "http://host:port"])
def test_a_url_that_is_none_is_one_line(kindred, url):
    assert url in fails_with_one_line(kindred("jobs", "list", "--url", url), code=2)


def commands(command=None, path=("kindred",)):
    """(command, its words), of all that `kindred` can do, the groups included."""
    command = command or typer.main.get_command(main.app)
    yield command, path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))


def test_the_help_of_every_command_has_an_example_of_it(kindred):
    for _, path in commands():
        code, out, _ = kindred(*path[1:], "--help")
        shown = [line for line in map(str.strip, out.splitlines()) if line.startswith("kindred ")]
        assert code == 0
        assert shown, f"{' '.join(path)} shows no example"
        assert all(line.startswith(" ".join(path)) for line in shown), path


def test_every_command_that_talks_to_one_collection_can_be_told_which():
    of_all = {("kindred", "collections", "list"), ("kindred", "status")}
    by_argument = {("kindred", "collections", "show")}
    options = {path: {o for p in c.params for o in p.opts} for c, path in commands()}

    of_the_api = {path for path, names in options.items() if "--url" in names}

    assert len(of_the_api) == len(IN_A_COLLECTION) + 5  # a backup and a watcher take several
    assert {p for p in of_the_api if "--collection" not in options[p]} == of_all | by_argument


def test_the_page_of_the_command_line_names_every_command():
    page = (Path(main.__file__).parents[1] / "docs/cli.md").read_text()
    for command, path in commands():
        if not getattr(command, "commands", None):
            assert f"`{' '.join(path)}" in page, path


def test_the_version_is_that_of_the_package(kindred):
    assert kindred("--version") == (0, f"kindred {importlib.metadata.version('kindred')}\n", "")


def test_a_shell_completes_the_commands_of_a_group(kindred, capsys, monkeypatch):
    completed = {"_KINDRED_COMPLETE": "complete_bash", "COMP_WORDS": "kindred jobs re"}
    for name, value in {**completed, "COMP_CWORD": "2"}.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SystemExit):
        kindred()

    assert capsys.readouterr().out.split() == ["rejections", "resume", "retry"]


def test_without_arguments_there_is_help(kindred):
    code, out, _ = kindred()
    assert code == 0
    assert "ingest" in out


# --- rendering -----------------------------------------------------------------------------------


def test_the_totals_of_several_jobs_are_their_sum():
    jobs = [job(total=3, embedded=1, unchanged=2), job("running", 5, 1, rejected=1)]

    totals = totals_of(jobs)

    assert totals.total == 8
    assert totals.counts == {"embedded": 2, "unchanged": 2, "rejected": 1}
    assert totals.state == "running"
    assert not totals.reconciled


def test_totals_that_are_incomplete_say_what_is_not_known():
    line = totals_line(totals_of([job("planning", None, 0)]))
    assert line.endswith("of a source not counted yet")


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (4.2, "4 s"), (725, "12:05"), (11220, "3:07:00")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_in_a_pipe_progress_is_a_line_now_and_then(capsys):
    now = [0.0]
    lines = follow.Lines(make_console(), clock=lambda: now[0])
    for second in range(12):
        now[0] = float(second)
        lines(follow.Step("embedding", second, 1000, 1.0, 1000.0 - second))
    assert capsys.readouterr().out.splitlines() == [
        "embedding 5 of 1,000, 1.0 images/s, 16:35 left",
        "embedding 10 of 1,000, 1.0 images/s, 16:30 left",
    ]


def test_it_starts_without_the_heavy_libraries():
    """A command that only asks the api must not wait for torch to load."""
    import subprocess
    import sys

    code = (
        "import sys, cli.main; heavy = {'torch', 'fastapi', 'celery', 'transformers', 'pydantic'};"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    root = str(Path(main.__file__).parents[1])
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert loaded.stdout.strip() == ""


def test_a_table_for_excel_holds_no_formula(tmp_path):
    rows = [{"row": -1, "name": "=1+1.jpg"}, {"row": 2, "name": "a=b.jpg"}]

    assert write_csv(tmp_path / "t.csv", ("row", "name"), rows) == 2

    assert (tmp_path / "t.csv").read_bytes() == (
        b"\xef\xbb\xbfrow,name\r\n-1,'=1+1.jpg\r\n2,a=b.jpg\r\n"
    )


# --- status --------------------------------------------------------------------------------------


def readiness(state: str = "ok", **store: str | None) -> dict:
    part = {"state": "ok", "since": None, "cause": None}
    return {"workers": 2, "broker": part, "store": {**part, "state": state, **store}, "blobs": part}


def test_status_shows_each_part(api, kindred):
    api.on("GET /readyz", answer({"status": "ready", **readiness()}))
    assert kindred("status") == (
        0,
        "ready, 2 workers with a sound encoder\nbroker: ok\nstore: ok\nblobs: ok\n",
        "",
    )


def test_status_counts_the_receivers(api, kindred):
    receivers = {"titles": ["KINDRED"], "processes": 2, "associations": 3}
    api.on("GET /readyz", answer({"status": "ready", **readiness(), "receivers": receivers}))
    assert "receivers: KINDRED in 2 processes, 3 associations\n" in kindred("status")[1]


def test_status_says_what_is_away_and_ends_with_1(api, kindred):
    away = readiness("away", since="2026-01-01T00:00:00Z", cause="it does not answer")
    api.on("GET /readyz", answer({"type": "x", "title": "t", "status": 503, **away}, 503))

    code, out, _ = kindred("status")
    assert code == 1
    assert "not ready" in out
    assert "store: away since 2026-01-01 00:00 UTC: it does not answer" in out
    code, out, _ = kindred("status", "--json")
    assert code == 1
    assert json.loads(out)["status"] == "not ready"

    api.on("GET /readyz", problem(500, "The data has another schema", "Upgrade."))
    assert "Upgrade." in fails_with_one_line(kindred("status"))


# --- quarantine -----------------------------------------------------------------------------------

WAITING = {
    "image_id": "a",
    "time": "2026-01-01T10:20:30Z",
    "metadata": {"modality": "US"},
    "reason": "it is ultrasound",
    "releasing": None,
    "rectangles": [{"left": 1, "top": 2, "width": 30, "height": 4}],
}


def test_what_waits_is_listed_with_its_reason(api, kindred):
    page = {"images": [WAITING, {**WAITING, "releasing": "j1"}], "count": 9, "cursor": 77}
    api.on("GET /v1/quarantine", answer(page))
    code, out, _ = kindred("quarantine")
    assert code == 0
    assert "2026-01-01 10:20:30" in out and "it is ultrasound" in out and "being released" in out
    assert "9 in all; the next: --cursor 77" in out


def test_what_is_proposed_can_be_masked(api, kindred):
    api.on("GET /v1/quarantine/a", answer(WAITING))
    api.on("POST /v1/quarantine/release", answer(job(), 202))
    assert kindred("quarantine", "mask", "a", "--rectangle", "proposed")[0] == 0
    sent = json.loads(api.requests[-1].content)
    assert sent == {"image_ids": ["a"], "rectangles": WAITING["rectangles"]}

    api.on("GET /v1/quarantine/a", answer({**WAITING, "rectangles": []}))
    code, _, err = kindred("quarantine", "mask", "a", "--rectangle", "proposed")
    assert code == 1 and "no rectangle is proposed for a" in err


@pytest.mark.parametrize("text", ["1,2,3", "a,b,c,d", "1,2,3,-4", ""])
def test_a_rectangle_that_is_none_is_wrong_usage(api, kindred, text):
    message = fails_with_one_line(kindred("quarantine", "mask", "a", "--rectangle", text), code=2)
    assert "LEFT,TOP,WIDTH,HEIGHT" in message


def test_nobody_refuses_without_a_question_or_a_yes(api, kindred):
    assert "--yes" in fails_with_one_line(kindred("quarantine", "refuse", "a"), code=2)
    assert api.requests == []
