"""Known terms and codes: a coded value is kept if it is one of these, and is else dropped."""

from functools import cache


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# PS3.3 C.7.3.1.1.1, of what is an image.
MODALITIES = _words(
    "BDUS BI BMD CR CT CFM DG DMS DX EC ES GM HC IO IVOCT IVUS LS MG MR NM OCT OP OPM OPR OPT "
    "OPTBSV OPTENF OSS OT PA PT PX RF RG RTIMAGE SC SM TG US VL XA XC CD CF CP DD "
    "DF DS EM FA FS LP MA MS ST VF XRF"
)

# PS3.16 Annex L, Table L-1: Body Part Examined, with the older terms of earlier editions.
BODY_PARTS = _words(
    """
    ABDOMEN ABDOMENPELVIS ACETABULUM ACJOINT ADRENAL AIRWAY ANKLE ANTECUBITALV ANTERIORCHEST ANUS
    AORTA AORTICARCH AORTICVALVE APPENDIX ARM ARTERY ASCAORTA ATRIUM AVM AXILLA BACK BILEDUCT
    BLADDER BRAIN BREAST BRONCHUS BUTTOCK CALCANEUS CALF CAROTID CEREBELLUM CEREBRALA CERVIX CHEEK
    CHEST CHESTABDOMEN CHESTABDPELVIS CIRCLEOFWILLIS CLAVICLE COCCYX COLON CORNEA CORONARYARTERY
    CORPUSCALLOSUM CSPINE CTSPINE DIAPHRAGM DUODENUM EAR ELBOW ENDOMETRIUM ESOPHAGUS EXTREMITY EYE
    EYELID FACE FALLOPIANTUBE FEMORALARTERY FEMUR FETUS FIBULA FINGER FOOT FOOTANKLE FOREARM
    FOREFOOT FOREHEAD GALLBLADDER GLENOID GROIN HAND HANDWRIST HEAD HEADNECK HEART HINDFOOT HIP
    HUMERUS IAC ILEUM ILIUM INFRARENALA INTESTINE JAW JEJUNUM JOINT KIDNEY KNEE LARGEINTESTINE
    LARYNX LEFTATRIUM LEFTVENTRICLE LEG LENS LIVER LOWERARM LOWERLEG LOWERLIMB LSPINE LSSPINE
    LUMBAR LUNG LYMPHNODE MANDIBLE MASTOID MAXILLA MEDIASTINUM METACARPUS METATARSUS MIDFOOT
    MITRALVALVE MOUTH NAIL NASALBONE NASOPHARYNX NECK NECKCHEST NECKCHESTABDOMEN NECKCHESTABDPELV
    NOSE OCCIPUT OPTICCANAL ORBIT OVARY PANCREAS PARATHYROID PAROTID PATELLA PELVIS
    PELVISLOWEXTREMT PENIS PERINEUM PERITONEUM PHALANX PHARYNX PITUITARY PLACENTA PROSTATE
    PULMONARYARTERY RADIUS RADIUSULNA RECTUM RENALARTERY RENALVEIN RETINA RETROPERITONEUM RIB
    RIBS RIGHTATRIUM RIGHTVENTRICLE SACRUM SCALP SCAPHOID SCAPULA SCJOINT SCLERA SCROTUM SELLA
    SEMINALVESICLE SHOULDER SIJOINT SINUS SINUSES SKIN SKULL SMALLINTESTINE SOFTTISSUE SPINE
    SPLEEN SSPINE STERNUM STOMACH SUBMANDIBULAR TESTIS THIGH THORACOLUMBAR THORAX THUMB THYMUS
    THYROID TIBIA TIBIAFIBULA TLSPINE TMJ TOE TONGUE TONSIL TOOTH TRACHEA TSPINE ULNA UMBILICUS
    UPPERARM UPPERLIMB URETER URETHRA URINARYTRACT UTERUS VAGINA VEIN VENACAVA VULVA WHOLEBODY
    WRIST ZYGOMA
    """
)

LATERALITIES = frozenset("RLUB")  # PS3.3 C.7.3.1 and 10.24: U is unpaired, B both

# PS3.3 C.8.1.3 (CR) and C.8.11.5.1 (DX), and CID 4014's code strings as mammographs write them.
VIEWS = _words(
    "AP PA LL RL RLD LLD RLO LLO LAO RAO LPO RPO CC MLO LM ML LMO SIO FB XCCL XCCM AT CV LATERAL "
    "LAT OBLIQUE AXIAL TANGENTIAL SKYLINE"
)

# CID 4 and its like, CID 4010 and 4014. Of other code sets nothing is kept.
REGIONS, VIEW_CODES = (4, 4009, 4028, 4029, 4030, 4031, 4040), (4010, 4014)

_SCHEMES = {"SCT": "SCT", "SRT": "SRT", "SNM3": "SRT", "99SDM": "SRT", "DCM": "DCM", "FMA": "FMA"}


def coded(code: str, scheme: str, sets: tuple[int, ...]) -> tuple[str, str, str] | None:
    """(code, scheme, meaning) of a code in one of these context groups; None for any other.

    The meaning is PS3.16's, never the file's. Older codes of SNOMED are told by today's (PS3.16
    Annex 8.1.1: SRT, SNM3 and 99SDM mean the same).
    """
    named = _SCHEMES.get(scheme, "")
    if named == "SRT":
        code, named = _of_snomed_rt().get(code, ""), "SCT"
    meaning = _meanings(sets).get((named, code))
    return None if meaning is None else (code, named, meaning)


@cache
def _of_snomed_rt() -> dict[str, str]:
    from pydicom.sr._snomed_dict import mapping  # takes half a second to load

    return dict(mapping["SRT"])


@cache
def _meanings(sets: tuple[int, ...]) -> dict[tuple[str, str], str]:
    from pydicom.sr._cid_dict import cid_concepts
    from pydicom.sr._concepts_dict import concepts as known

    concepts: dict[str, dict[str, dict[str, tuple[str, list[int]]]]] = known  # type: ignore[assignment]
    found: dict[tuple[str, str], str] = {}
    for number in sets:
        for scheme, keywords in cid_concepts[number].items():
            for keyword in keywords:
                for code, (meaning, groups) in concepts[scheme][keyword].items():
                    if number in groups:
                        found[scheme, code] = meaning
    return found
