"""What is kept of a DICOM file's header, in which form, and what is dropped."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, config

from pipeline.base.blobs import Blobs
from pipeline.base.errors import Conflict, SourceError
from pipeline.base.sealing import seal, unseal
from pipeline.dicom import forms, kinds, makers, terms
from pipeline.dicom.account import PRIVATE, Account
from pipeline.dicom.describing import NO_UID, Policy, describe
from pipeline.dicom.directory import file_ids
from pipeline.dicom.errors import Refused
from pipeline.dicom.kept import HASHED
from pipeline.dicom.pseudonyms import Pseudonyms, ids_of, is_uid
from pipeline.dicom.reading import read_header
from pipeline.sources.folder.catalogue import Catalogue
from pipeline.sources.folder.joined import read_joined
from pipeline.sources.folder.reader import Pictures, plan_folder
from pipeline.sources.folder.survey import Rules
from tests.memory_ledger import memory_ledgers
from tests.planted import MARK, ROOT, marks_in, plain, planted, unchecked, written
from tests.trees import picture

KEYS = Pseudonyms((b"a key of our own",))
POLICY = Policy(KEYS)


def described(policy: Policy = POLICY, **given: Any) -> dict[str, Any]:
    with unchecked():
        data = plain(1, **given)
    return describe(read_header(io.BytesIO(data)), policy).metadata


def coded(code: str, scheme: str, meaning: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, scheme, meaning
    return [item]


def test_nothing_of_a_file_full_of_marks_is_kept() -> None:
    data = planted(1)
    assert len(marks_in(data)) > 3000
    policy = POLICY.counting()

    found = describe(read_header(io.BytesIO(data)), policy)

    assert not MARK.search(json.dumps(found.said_of(0)).encode())
    assert found.metadata.keys() == {
        "modality", "body_part", "manufacturer", "sex", "age", "study_year", *HASHED.values(),
    }  # fmt: skip
    assert policy.account is not None
    assert not marks_in(json.dumps(policy.account.as_json()).encode())
    assert policy.account.dropped[PRIVATE] > 0


@pytest.mark.parametrize(
    ("keyword", "value", "name", "kept"),
    [
        ("Modality", "MR", "modality", "MR"),
        ("Modality", "MEIER", "modality", None),
        ("BodyPartExamined", "c-spine", "body_part", "CSPINE"),
        ("BodyPartExamined", "KNEE MEIER", "body_part", None),
        ("ImageLaterality", "L", "laterality", "L"),
        ("ImageLaterality", "MEIER", "laterality", None),
        ("ViewPosition", "MLO", "view", "MLO"),
        ("ViewPosition", "OF MEIER", "view", None),
        ("PatientSex", "O", "sex", "O"),
        ("PatientSex", "MEIER", "sex", None),
        ("Manufacturer", "Philips Medical Systems, Best", "manufacturer", "Philips"),
        ("Manufacturer", "Meier GmbH", "manufacturer", None),
        ("PatientAge", "023Y", "age", 23),
        ("PatientAge", "030M", "age", 2),
        ("PatientAge", "000D", "age", None),
        ("PatientAge", "94Y", "age", None),
        ("PatientAge", "094Y", "age", 90),
        ("PatientAge", "999Y", "age", None),
        ("PatientAge", "MEIER", "age", None),
        ("StudyDate", "20230231", "study_year", None),
        ("StudyDate", "2023.02.28", "study_year", 2023),
        ("StudyDate", "MEIER", "study_year", None),
    ],
)
def test_a_value_is_kept_only_in_the_form_of_its_kind(
    keyword: str, value: str, name: str, kept: object
) -> None:
    assert described(**{keyword: value}).get(name) == kept


@pytest.mark.parametrize(
    ("born", "seen", "age"),
    [
        ("19800301", "20240229", 43),
        ("19800229", "20240229", 44),
        ("19200101", "20240229", 90),
        ("20240301", "20240229", None),
        ("", "20240229", None),
        ("17800101", "20240229", None),
    ],
)
def test_an_age_that_is_missing_is_that_of_the_dates(born: str, seen: str, age: object) -> None:
    said = described(PatientAge="000D", PatientBirthDate=born, StudyDate=seen)
    assert said.get("age") == age


@pytest.mark.parametrize(
    ("dates", "kept"),
    [
        ("none", {}),
        ("year", {"study_year": 2024}),
        ("month", {"study_year": 2024, "study_date": "2024-02"}),
        ("full", {"study_year": 2024, "study_date": "2024-02-29"}),
    ],
)
def test_of_a_date_the_policy_says_what_is_kept(dates: Any, kept: dict[str, Any]) -> None:
    said = described(Policy(KEYS, dates))
    assert {name: value for name, value in said.items() if name.startswith("study_")} == {
        **kept,
        "study_id": said["study_id"],
    }


def test_a_code_is_kept_with_the_meaning_that_the_standard_gives_it() -> None:
    lung = described(AnatomicRegionSequence=coded("39607008", "SCT", "of Meier"))
    assert (lung["region"], lung["region_code"], lung["region_scheme"]) == (
        "Lung", "39607008", "SCT",
    )  # fmt: skip
    # The same in SNOMED's older codes.
    assert described(AnatomicRegionSequence=coded("T-28000", "SRT", "x"))["region_code"] == (
        "39607008"
    )
    view = described(ViewCodeSequence=coded("399162004", "SCT", "of Meier"))
    assert view["view_code"] == "399162004"
    for other in (("4711", "SCT"), ("39607008", "99MEIER"), ("MEIER", "DCM")):
        assert "region" not in described(AnatomicRegionSequence=coded(*other, "Meier"))


def test_of_a_model_only_known_words_of_known_makers_are_kept() -> None:
    siemens = {"Manufacturer": "SIEMENS"}
    assert described(**siemens, ManufacturerModelName="SOMATOM Definition Flash")["model"] == (
        "Somatom Definition Flash"
    )
    assert described(**siemens, ManufacturerModelName="MAGNETOM Meier 3T")["model"] == (
        "Magnetom 3T"
    )
    assert "model" not in described(**siemens, ManufacturerModelName="Hans Meier")
    assert "model" not in described(**siemens, ManufacturerModelName="16")
    unknown = described(Manufacturer="Meier", ManufacturerModelName="Somatom")
    assert "model" not in unknown


def test_no_model_is_called_like_many_people() -> None:
    names = "Anna Alice Aurora Bella Clara Diana Emma Eva Grace Hans Iris Julia Laura Lucia Max"
    for name in (
        *names.split(),
        "Meier",
        "Müller",
        "Schmidt",
        "Smith",
        "Jones",
        "Garcia",
        "Nguyen",
    ):
        assert makers.model(name) is None, name
        assert makers.maker(name) is None, name


@pytest.mark.parametrize(
    "charset", ["ISO 2022 IR 87\\ISO 2022 IR 13", "GB18030", "MEIER", "ISO_IR 6\\\\x", ""]
)
@pytest.mark.parametrize(
    "number", [b"4711", "Müller".encode("latin-1"), b"\x1b$B;3ED\x1b(B", b"\xff"]
)
def test_character_sets_that_are_wrong_or_mixed_raise_nothing(charset: str, number: bytes) -> None:
    with unchecked():
        data = plain(1, PatientID="1234567890")
    found = read_header(io.BytesIO(data.replace(b"1234567890", number.ljust(10))))
    one = Dataset()
    one.SpecificCharacterSet = "ISO_IR 192"
    found["SpecificCharacterSet"] = one["SpecificCharacterSet"]
    found["SpecificCharacterSet"].value = charset.split("\\")
    assert len(describe(found, POLICY).metadata["patient_id"]) == 32


def test_blanks_around_a_number_do_not_matter() -> None:
    assert described(PatientID="0815 ")["patient_id"] == described(PatientID=" 0815")["patient_id"]
    assert described(PatientID="0815")["patient_id"] == KEYS.of("PatientID", "0815")
    assert described(PatientID="0815")["patient_id"] != described(PatientID="815")["patient_id"]


def test_one_number_has_other_hashes_as_a_patients_and_as_an_accession() -> None:
    said = described(PatientID="1", AccessionNumber="1")
    assert said["patient_id"] != said["accession_id"]


def test_a_frame_has_the_id_of_its_file_and_its_number() -> None:
    found = describe(read_header(io.BytesIO(planted(1, frames=3))), POLICY)
    whole = KEYS.of("SOPInstanceUID", f"{ROOT}.9.1")
    assert [found.id_of(frame) for frame in found.frames] == [f"{whole}#{n}" for n in (1, 2, 3)]
    assert (found.said_of(1)["frame"], found.said_of(1)["frames"]) == (2, 3)
    assert found.said_of(1)["instance_id"] == whole


def test_a_file_without_a_uid_is_refused() -> None:
    header = read_header(io.BytesIO(plain(1)))
    del header["SOPInstanceUID"]
    del header.file_meta["MediaStorageSOPInstanceUID"]
    with pytest.raises(Refused, match=NO_UID):
        describe(header, POLICY)


@pytest.mark.parametrize(
    ("uid", "kind"),
    [
        ("1.2.840.10008.5.1.4.1.1.88.22", "dicom sr"),
        ("1.2.840.10008.5.1.4.1.1.88.59", "dicom ko"),
        ("1.2.840.10008.5.1.4.1.1.11.1", "dicom pr"),
        ("1.2.840.10008.5.1.4.1.1.66.4", "dicom seg"),
        ("1.2.840.10008.5.1.4.1.1.66", "dicom raw"),
        ("1.2.840.10008.5.1.4.1.1.66.1", "dicom registration"),
        ("1.2.840.10008.5.1.4.1.1.481.2", "dicom rtdose"),
        ("1.2.840.10008.5.1.4.1.1.481.3", "dicom rtstruct"),
        ("1.2.840.10008.5.1.4.1.1.481.5", "dicom rtplan"),
        ("1.2.840.10008.5.1.4.1.1.104.1", "dicom pdf"),
        ("1.2.840.10008.5.1.4.1.1.104.2", "dicom cda"),
        ("1.2.840.10008.5.1.4.1.1.104.3", "dicom stl"),
        ("1.2.840.10008.5.1.4.1.1.9.1.1", "dicom waveform"),
        ("1.2.840.10008.5.1.4.1.1.77.1.6", "dicom slide"),
        ("1.2.840.10008.5.1.4.1.1.2", None),
        ("1.2.840.10008.5.1.4.1.1.7", None),
        ("1.2.840.10008.5.1.4.1.1.77.1.4", None),
        ("1.2.840.10008.5.1.4.1.1.481.1", None),
    ],
)
def test_what_is_no_image_has_a_kind(uid: str, kind: str | None) -> None:
    assert kinds.of_class(uid) == kind
    with unchecked():
        data = plain(1, SOPClassUID=uid)
    policy = POLICY.counting()
    assert describe(read_header(io.BytesIO(data)), policy).skip == kind
    assert policy.account is not None
    assert dict(policy.account.skipped) == ({kind: 1} if kind else {})


def test_every_storage_class_of_the_standard_is_an_image_or_has_a_kind() -> None:
    """A class that is neither is an image by its name, and has pixels."""
    from pydicom.uid import UID_dictionary

    words = ("Image", "Volume", "Enhanced", "Photoacoustic", "CT", "X-Ray", "AIT", "Tomography")
    for uid, (name, kind, *_) in UID_dictionary.items():
        if kind == "SOP Class" and uid.startswith("1.2.840.10008.5.1.4.1.1.") and "Stor" in name:
            unlike = kinds.of_class(uid) is None and not any(word in name for word in words)
            assert not unlike or "DICOS" in name, (uid, name)


def test_a_class_of_a_maker_is_told_by_its_modality_and_a_film_by_its_syntax() -> None:
    assert described(SOPClassUID="1.3.12.2.1107.5.9.1", Modality="CT")["modality"] == "CT"
    with unchecked():
        private = plain(1, SOPClassUID="1.3.12.2.1107.5.9.1", Modality="SR")
    assert describe(read_header(io.BytesIO(private)), POLICY).skip == "dicom sr"
    header = read_header(io.BytesIO(plain(1)))
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"
    assert describe(header, POLICY).skip == "dicom video"


def test_an_account_is_read_as_it_was_written() -> None:
    policy = POLICY.counting()
    describe(read_header(io.BytesIO(planted(1, frames=2))), policy)
    assert policy.account is not None
    text = json.dumps(policy.account.as_json())
    assert Account.of_json(json.loads(text)) == policy.account
    assert (policy.account.files, policy.account.frames) == (1, 2)
    size = len(text)
    for number in range(50):
        describe(read_header(io.BytesIO(plain(number))), policy)
    assert len(json.dumps(policy.account.as_json())) < size + 100


# --- keys ----------------------------------------------------------------------------------------


def test_processes_that_start_together_have_one_key() -> None:
    ledgers = memory_ledgers()
    one, other = ledgers.of("skin").pseudonyms, ledgers.of("skin").pseudonyms
    assert one.get() == other.get()
    assert ledgers.of("lung").pseudonyms.get() != one.get()


def test_a_key_that_another_has_drawn_meanwhile_counts() -> None:
    ledger = memory_ledgers().of("skin").pseudonyms
    redis, name = ledger._redis, ledger._name

    class Slow:
        """Between its look and its write, another process draws."""

        def get(self, key: str) -> Any:
            found = redis.get(key)
            if found is None:
                redis.set(key, json.dumps(["theirs"]))
            return found

        def set(self, *args: Any, **options: Any) -> Any:
            return redis.set(*args, **options)

    ledger._redis = Slow()
    assert ledger.get().keys == (b"theirs",)
    assert json.loads(redis.get(name)) == ["theirs"]


def test_after_a_rotation_the_newest_key_comes_first_and_older_ones_are_known() -> None:
    ledger = memory_ledgers().of("skin").pseudonyms
    before = ledger.get()
    assert ledger.rotate() == 2
    after = ledger.get()
    assert after.keys[1:] == before.keys
    assert before.of("PatientID", "1") in after.all_of("PatientID", "1")
    assert after.of("PatientID", "1") != before.of("PatientID", "1")
    described_anew = Policy(after)
    found = describe(read_header(io.BytesIO(plain(1, PatientID="1"))), described_anew)
    assert found.former_of(0)[0]["patient_id"] == before.of("PatientID", "1")
    assert found.former_of(0)[0]["image_id"] == before.of("SOPInstanceUID", f"{ROOT}.9.1")


def test_a_key_of_the_operators_own_comes_first_and_is_not_rotated_here() -> None:
    ledger = memory_ledgers().of("skin").pseudonyms
    drawn = ledger.get()
    assert ledger.get("new, old").keys == (b"new", b"old", *drawn.keys)
    with pytest.raises(Conflict, match="KINDRED_PSEUDONYM_KEY"):
        ledger.rotate("new")


def test_a_sealed_blob_opens_with_its_key_alone() -> None:
    keys = (b"new", b"old")
    sealed = seal(b"of a patient", keys)
    assert b"patient" not in sealed
    assert unseal(sealed, keys) == unseal(sealed, (b"old",)) == b"of a patient"
    assert unseal(sealed, (b"newer", *keys)) == b"of a patient"
    assert unseal(b"in clear", ()) == b"in clear"
    with pytest.raises(FileNotFoundError):
        unseal(sealed, (b"another",))


@pytest.mark.parametrize(
    ("text", "uid"),
    [
        ("1.2.840.113619.2.1", True), ("2.25.331", False), ("ISIC_0001", False), ("1.10", False),
        ("0.1.2.3", True), ("1.02.3.4", False), ("3.1.2.3", False), ("", False),
        ("1." * 40 + "1", False),
    ],
)  # fmt: skip
def test_a_uid_is_known_by_its_form(text: str, uid: bool) -> None:
    assert is_uid(text) is uid


def test_a_frame_can_be_asked_for_by_the_original_uid() -> None:
    [hashed] = ids_of(KEYS, ["1.2.3.4.5#2"])["1.2.3.4.5#2"]
    assert hashed == f"{KEYS.of('SOPInstanceUID', '1.2.3.4.5')}#2"
    assert ids_of(KEYS, ["ISIC_0001", "a#b"]) == {}


# --- tables and directories ----------------------------------------------------------------------


def joined(tmp_path: Path, text: str, name: str = "t.csv", **given: Any) -> tuple[Any, Any]:
    (tmp_path / name).write_text(text)
    table = read_joined(tmp_path / name)
    return table, table.of(read_header(io.BytesIO(plain(1, **given))))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "PatientID,dx\n007,nevus\n7,other\n"),
        ("t.tsv", "Patient ID\tdx\n007\tnevus\n"),
        ("t.csv", "dx;mrn\nnevus; 007 \n"),
        ("t.jsonl", '{"patient_id": "007", "dx": "nevus"}\n'),
    ],
)
def test_a_table_is_joined_by_the_original_number(tmp_path: Path, name: str, text: str) -> None:
    assert joined(tmp_path, text, name, PatientID="007")[1] == {"dx": "nevus"}


def test_the_most_precise_key_counts_and_no_key_is_kept(tmp_path: Path) -> None:
    text = f"patient_id,SOPInstanceUID,accession,dx\nA,{ROOT}.9.1,X,nevus\nA,{ROOT}.9.2,X,bcc\n"
    table, said = joined(tmp_path, text, PatientID="A", AccessionNumber="X")
    assert said == {"dx": "nevus"}
    [unused] = table.unused()
    assert (unused.name, unused.reason) == (
        "t.csv:3", "t.csv, line 3, belongs to none of the DICOM files",
    )  # fmt: skip


def test_rows_of_one_key_that_contradict_each_other_are_rejected(tmp_path: Path) -> None:
    table, said = joined(tmp_path, "mrn,dx\nA,nevus\nA,nevus\nA,bcc\n,x\n", PatientID="A")
    assert said == {"dx": "nevus"}
    assert [fault.name for fault in table.faults] == ["t.csv:4", "t.csv:5"]
    assert not any(fault.reason.count("A") and "bcc" in fault.reason for fault in table.faults)


@pytest.mark.parametrize("text", ["dx,age\nnevus,4\n", "", '"open'])
def test_a_table_without_a_key_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError, match="cannot be read"):
        joined(tmp_path, text)


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="There is no table"):
        read_joined(tmp_path / "none.csv")


def test_a_directory_lists_its_files_and_a_broken_one_is_refused() -> None:
    directory = Dataset()
    directory.SOPClassUID, directory.SOPInstanceUID = "1.2.840.10008.1.3.10", "1.2.3.4"
    records = []
    for path in (["A", "B"], ["A", "B"], ["..", "C"], []):
        record = Dataset()
        record.ReferencedFileID = path
        records.append(record)
    directory.DirectoryRecordSequence = records
    assert file_ids(io.BytesIO(written(directory))) == [("A", "B"), ("..", "C")]
    with pytest.raises(Refused):
        file_ids(io.BytesIO(b"no DICOM at all"))


def test_terms_are_terms() -> None:
    for known in (terms.MODALITIES, terms.BODY_PARTS, terms.VIEWS):
        assert all(term.isupper() and term.isalpha() for term in known)
    assert forms.OLDEST == 90
    assert config.settings.reading_validation_mode == config.IGNORE


# --- what stays of names -------------------------------------------------------------------------


def test_of_a_tree_with_dicom_no_name_is_listed_and_of_another_all_are(tmp_path: Path) -> None:
    scans, photographs = tmp_path / "scans", tmp_path / "photographs"
    for folder in (scans, photographs):
        (folder / "Meier").mkdir(parents=True)
        (folder / "Meier" / "letter.txt").write_text("x")
        (folder / "Meier" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 and no more")
        (folder / "Meier" / "empty.dcm").write_bytes(b"")
        (folder / "Meier" / "fine.jpg").write_bytes(picture())
    (scans / "Meier" / "scan").write_bytes(plain(1))
    (scans / "Meier" / "sr").write_bytes(plain(2, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"))
    blobs = Blobs(str(tmp_path / "blobs"))

    for root in (scans, photographs):
        wanted = Pictures(root, (tmp_path,), Rules(dicom=POLICY))
        catalogue = plan_folder(wanted, blobs, root.name)
        names = [*catalogue.names(range(catalogue.rows)).values()]
        names += [name for name, _ in catalogue.skipped_names(0, 99)]
        hidden = [name for name in names if name.startswith("dicom/")]
        if root == scans:
            assert hidden == names
            assert KEYS.name_of("Meier/letter.txt") in names
        else:
            assert hidden == [KEYS.name_of("Meier/empty.dcm")]
        catalogue.conclude(range(catalogue.rows))
        left = b"".join(path.read_bytes() for path in (tmp_path / "blobs").rglob("*.json"))
        assert (b"Meier" in left) == (root == photographs)
        blobs.delete(f"jobs/{root.name}")


def test_a_plan_that_was_not_finished_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "Meier").write_bytes(plain(1))
    blobs = Blobs(str(tmp_path / "blobs"))
    plan_folder(Pictures(tmp_path / "scans", (), Rules(dicom=POLICY)), blobs, "job")
    blobs.delete("jobs/job/index.json")
    Catalogue.discard(blobs, "job")
    assert [*blobs.walk("jobs")] == ["jobs/job/deidentification.json"]
