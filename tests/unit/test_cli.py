"""The command line against a scripted api: what it sends, what it says, how it ends."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from cli import follow, main
from cli.account import account_of
from cli.client import Client
from cli.failure import CommandError
from cli.render import account_line, duration
from cli.source import resolve_source

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
    monkeypatch.setattr(
        main, "_client", lambda url: Client(url, "secret", httpx.MockTransport(scripted))
    )
    return scripted


@pytest.fixture
def kindred(capsys) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = main.run(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return call


def fails_with_one_line(result: tuple[int, str, str]) -> str:
    code, out, err = result
    assert code == 1
    assert err.startswith("kindred: ")
    assert err.count("\n") == 1
    assert "Traceback" not in out + err
    return err


# --- ingest --------------------------------------------------------------------------------------


def test_ingest_follows_the_job_and_ends_with_its_account(api, kindred):
    api.on("POST /v1/jobs", answer(job("planning", None, 0), 202))
    api.on(
        "GET /v1/jobs/j1",
        answer(job("running", 10, 4, images_per_second=8.0, eta_seconds=1.0)),
        answer(job("completed_with_rejections", 10, 7, 2, 1)),
    )
    rejected = {"key": "img-7", "row": 7, "reason": "truncated file"}
    api.on("GET /v1/jobs/j1/rejections", answer({"rejections": [rejected], "cursor": None}))

    code, out, err = kindred("ingest", "owner/name", "--limit", "10")

    assert (code, err) == (0, "")
    assert api.sent() == {"dataset": "owner/name", "limit": 10}
    assert api.requests[0].headers["Authorization"] == "Bearer secret"
    assert "10 = 7 embedded + 2 unchanged + 1 rejected" in out
    assert "rejected: row 7, img-7: truncated file" in out


def test_only_the_first_rejections_are_shown_with_the_way_to_the_others(api, kindred):
    api.on("POST /v1/jobs", answer(job("completed_with_rejections", 10, 3, 0, 7), 202))
    rejected = [{"key": f"k{n}", "row": n, "reason": "broken"} for n in range(7)]
    api.on("GET /v1/jobs/j1/rejections", answer({"rejections": rejected, "cursor": None}))

    _, out, _ = kindred("ingest", "owner/name")

    assert out.count("rejected: row") == 5
    assert "… and 2 more: kindred jobs j1 --rejections" in out


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
    assert "kindred jobs j1" in err
    assert "--cancel" in err


def test_following_outlives_an_api_that_is_away_for_a_moment(api, kindred):
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
    assert "kindred jobs j1 --follow" in out
    assert len(api.requests) == 1


def test_a_local_folder_is_sent_absolute(api, kindred, tmp_path, monkeypatch):
    (tmp_path / "scans").mkdir()
    monkeypatch.chdir(tmp_path)
    api.on("POST /v1/jobs", answer(job(), 202))

    kindred("ingest", "scans", "--split", "test")

    assert api.sent() == {"dataset": str(tmp_path / "scans"), "split": "test"}


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


def test_search_by_a_file_does_not_tell_its_name(api, kindred, tmp_path):
    scan = tmp_path / "Jane Doe.PNG"
    scan.write_bytes(b"pixels")
    api.on("POST /v1/searches", answer({"id": "s", "state": "succeeded", "results": []}))

    code, out, _ = kindred("search", str(scan), "--threshold", "0.9")

    assert (code, out) == (0, "no images\n")
    body = api.requests[0].content
    assert b"pixels" in body
    assert b'name="image"; filename="image.png"' in body
    assert b'"score_threshold": 0.9' in body
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

    code, out, _ = kindred("images", "--limit", "1", "--filter", "{}")

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

    assert "KINDRED_API_KEY" in fails_with_one_line(kindred("jobs"))


# --- jobs ----------------------------------------------------------------------------------------


def test_jobs_are_listed(api, kindred):
    jobs = [
        job("running", 2000, 1500, images_per_second=12.34, eta_seconds=65),
        job("failed", None),
    ]
    api.on("GET /v1/jobs", answer({"jobs": jobs}))

    code, out, _ = kindred("jobs")

    assert code == 0
    assert "12.3" in out
    assert "1:05" in out
    assert "2,000" in out


@pytest.mark.parametrize("action", ["cancel", "pause", "resume", "retry"])
def test_a_job_is_steered_by_a_flag(api, kindred, action):
    api.on(f"POST /v1/jobs/j1/{action}", answer(job("paused")))

    code, out, _ = kindred("jobs", "j1", f"--{action}", "--json")

    assert code == 0
    assert json.loads(out)["state"] == "paused"


def test_all_rejections_are_listed_page_by_page(api, kindred):
    pages = [
        {"rejections": [{"key": "a", "row": 1, "reason": "x"}], "cursor": 7},
        {"rejections": [{"key": "b", "row": 2, "reason": "y"}], "cursor": None},
    ]
    api.on("GET /v1/jobs/j1/rejections", *map(answer, pages))

    code, out, _ = kindred("jobs", "j1", "--rejections", "--json")

    assert code == 0
    assert [r["key"] for r in json.loads(out)["rejections"]] == ["a", "b"]
    assert api.requests[1].url.params["cursor"] == "7"


# --- ends ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("search",), "search for one of: image files or --like, --id, --text"),
        (("search", "a.png", "--id", "x"), "search for one of"),
        (("search", "/no/such.png"), "/no/such.png cannot be read: No such file"),
        (("search", "--id", "x", "--filter", "{"), "--filter is not JSON"),
        (("search", "--id", "x", "--filter", "[]"), "not a JSON object"),
        (("search", "--id", "x", "--limit", "many"), "--limit"),
        (("jobs", "--cancel"), "which job?"),
        (("jobs", "j1", "--cancel", "--pause"), "cannot be used together"),
        (("ingest", "a", "b"), "several files need --upload"),
        (("ingest", "--upload", ".", "--split", "x"), "--split has no meaning with --upload"),
        (("ingest", "--upload", "/no/such"), "no such file or folder: /no/such"),
        (("frobnicate",), "No such command 'frobnicate'"),
    ],
)
def test_a_call_that_makes_no_sense_is_one_line(api, kindred, arguments, message):
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
    assert message in fails_with_one_line(kindred("images", "--json"))


@pytest.mark.parametrize("url", ["nonsense", "ftp://host", "http://host:port"])
def test_a_url_that_is_none_is_one_line(kindred, url):
    assert url in fails_with_one_line(kindred("jobs", "--url", url))


def test_without_arguments_there_is_help(kindred):
    code, out, _ = kindred()
    assert code == 0
    assert "ingest" in out


# --- rendering -----------------------------------------------------------------------------------


def test_the_account_of_several_jobs_is_their_sum():
    jobs = [job(total=3, embedded=1, unchanged=2), job("running", 5, 1, rejected=1)]

    account = account_of(jobs, refused=2)

    assert (account.total, account.embedded, account.unchanged, account.rejected) == (10, 2, 2, 3)
    assert account.state == "running"
    assert not account.closed


def test_an_open_account_says_what_is_not_known():
    line = account_line(account_of([job("planning", None, 0)]))
    assert line.endswith("of a source not counted yet")


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (4.2, "4 s"), (725, "12:05"), (11220, "3:07:00")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_in_a_pipe_progress_is_a_line_now_and_then(capsys):
    now = [0.0]
    lines = follow.Lines(main.make_console(), clock=lambda: now[0])
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
