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


def read_account(blobs: Blobs, job: str) -> Account:
    """An empty one if there is none."""
    try:
        return Account.of_json(json.loads(blobs.read(account_name(job))))
    except FileNotFoundError:
        return Account()
