"""The account of what de-identification did to a job's files, as a blob beside the job's others."""

import json

from pipeline.base.blobs import Blobs, account_name
from pipeline.dicom.account import Account
from pipeline.dicom.describing import Policy


def write_account(blobs: Blobs, job: str, policy: Policy | None) -> None:
    """Replaces what an earlier plan has counted. Writes nothing where there was no DICOM file."""
    account = policy.account if policy is not None else None
    if account is None or account.is_empty:
        blobs.delete(account_name(job))
    else:
        blobs.write(account_name(job), json.dumps(account.as_json()).encode())


def write_part(blobs: Blobs, job: str, part: str, account: Account) -> None:
    """What one reader of a job has counted, whose files are read only when their rows are."""
    blobs.write(f"{_parts(job)}/{part}.json", json.dumps(account.as_json()).encode())


def read_account(blobs: Blobs, job: str) -> Account:
    """An empty one if there is none."""
    whole = Account()
    for name in (account_name(job), *blobs.names(_parts(job))):
        try:
            whole.add(Account.of_json(json.loads(blobs.read(name))))
        except FileNotFoundError:
            continue
    return whole


def _parts(job: str) -> str:
    return account_name(job).removesuffix(".json")
