"""Where machines write names into their pictures: rectangles by modality, maker, model and rows.

The facts come from the recipes of deid (https://github.com/pydicom/deid, `deid.dicom`, MIT), which
has them from users of the RSNA's Clinical Trial Processor. They are what people have met, so the
list is neither complete nor exact.
"""

from dataclasses import dataclass

Rectangle = tuple[int, int, int, int]  # left, top, width, height in pixels


@dataclass(frozen=True)
class Place:
    """`maker` and `model` are parts of what the header says, in capitals, the model's without
    blanks and dashes; empty: any. `rows` is the picture's height; 0: any."""

    modality: str
    maker: str
    model: str
    rows: int
    rectangles: tuple[Rectangle, ...]


def _top(width: int, height: int) -> tuple[Rectangle, ...]:
    return ((0, 0, width, height),)


PLACES: tuple[Place, ...] = tuple(
    Place(*each)
    for each in (
        ("US", "GE", "LOGIQ9", 0, _top(640, 30)),
        ("US", "GE", "LOGIQE9", 0, _top(960, 70)),
        ("US", "GE", "V830", 0, _top(960, 70)),
        ("US", "GE", "LOGIQE", 614, _top(1150, 75)),
        ("US", "GE", "LOGIQP", 614, _top(1060, 67)),
        ("US", "GE", "LOGIQS6", 768, _top(800, 80)),
        ("US", "GE", "LOGIQS7", 720, _top(1060, 67)),
        ("US", "GE", "LOGIQS8", 720, _top(1140, 50)),
        ("US", "GE", "LOGIQS8", 768, _top(1150, 60)),
        ("US", "GE", "LOGIQS8", 819, _top(937, 57)),
        ("US", "GE", "LOGIQS8", 873, _top(1160, 65)),
        ("US", "GE", "LOGIQ7", 989, _top(1150, 24)),
        ("US", "GE", "VOLUSONP8", 727, _top(1150, 65)),
        ("US", "GE", "VOLUSONS", 743, _top(925, 62)),
        ("US", "GE", "VOLUSONS10", 600, _top(1040, 62)),
        ("US", "GE", "VOLUSONS10", 852, _top(1040, 62)),
        ("US", "KRETZ", "V730", 600, _top(1140, 80)),
        ("US", "PHILIPS", "IU22", 480, _top(640, 47)),
        ("US", "PHILIPS", "IU22", 600, _top(800, 59)),
        ("US", "PHILIPS", "IU22", 768, _top(1024, 75)),
        ("US", "PHILIPS", "IU22", 786, _top(1024, 75)),
        ("US", "PHILIPS", "AFFINITI70G", 768, _top(1024, 22)),
        ("US", "PHILIPS", "AFFINITI70G", 825, _top(1140, 70)),
        ("US", "PHILIPS", "CLEARVUE650", 600, _top(1150, 22)),
        ("US", "PHILIPS", "EPIQ", 600, _top(1024, 59)),
        ("US", "PHILIPS", "EPIQ", 768, _top(1024, 59)),
        ("US", "PHILIPS", "EPIQ", 825, _top(800, 59)),
        ("US", "PHILIPS", "CX50", 0, _top(800, 59)),
        ("US", "ATL", "HDI5000", 476, ((40, 0, 200, 40), (240, 0, 190, 16))),
        ("US", "ATL", "HDI4000", 480, _top(1140, 62)),
        ("US", "SIEMENS", "S2000", 768, _top(1024, 60)),
        ("US", "SIEMENS", "S3000", 768, _top(1040, 60)),
        ("US", "SIEMENS", "SC2000", 768, ((230, 50, 260, 370),)),
        (
            *("US", "SIEMENS", "ANTARES", 768),
            ((0, 0, 1024, 60), (200, 60, 20, 20), (800, 65, 104, 14)),
        ),
        ("US", "SIEMENS", "G40", 600, _top(980, 45)),
        ("US", "SIEMENS", "ACUSONNX3", 768, _top(1150, 58)),
        ("US", "SIEMENS", "X150", 600, _top(1145, 50)),
        ("US", "SIEMENS", "ACUSON", 600, ((0, 0, 800, 43), (128, 56, 16, 16))),
        ("US", "ACUSON", "SEQUOIA", 480, _top(640, 30)),
        ("US", "TOSHIBA", "A300", 632, _top(1150, 72)),
        ("US", "TOSHIBA", "A300", 720, _top(1150, 68)),
        ("US", "TOSHIBA", "A400", 720, _top(960, 60)),
        ("US", "TOSHIBA", "A500", 632, _top(1150, 60)),
        ("US", "TOSHIBA", "A500", 720, _top(960, 60)),
        ("US", "TOSHIBA", "A500", 903, _top(930, 50)),
        ("US", "ZONARE", "ZONE", 600, _top(800, 65)),
        ("US", "ZONARE", "ZS3", 600, _top(1150, 55)),
        ("US", "SUPERSONIC", "AIXPLORER", 1050, _top(1400, 89)),
        ("US", "SENO", "", 1056, ((161, 0, 1632, 50),)),
        ("US", "SENO", "", 1058, ((161, 0, 1632, 50),)),
        ("US", "ESAOTE", "6100", 608, _top(790, 52)),
        ("US", "ESAOTE", "6150", 555, _top(1140, 72)),
        ("US", "ESAOTE", "6150", 608, _top(1140, 72)),
        ("US", "ESAOTE", "6150", 804, _top(1030, 45)),
        ("US", "MEDISON", "ACCUVIXV20", 768, _top(1010, 65)),
        ("US", "MEDISON", "SONOACER7", 768, _top(1140, 60)),
        ("US", "SAMSUNG", "SONOACER7", 768, _top(1024, 60)),
        ("US", "SAMSUNG", "UGEOH60", 720, _top(1150, 70)),
        ("US", "MINDRAY", "", 0, _top(1229, 69)),
        ("US", "MINDRAY", "M6", 600, _top(1050, 75)),
        ("US", "MINDRAY", "M7", 768, _top(1080, 80)),
        ("US", "SIUI", "CTS8800", 0, _top(1360, 100)),
        ("US", "HITACHI", "HIVISIONPREIRUS", 768, _top(1150, 60)),
        ("US", "HITACHI", "HIVISIONAVIUS", 768, _top(1140, 74)),
        ("US", "HITACHI", "PROSOUNDF75", 768, _top(1025, 50)),
        ("US", "CHISON", "Q9NEW", 568, _top(1250, 80)),
        ("US", "ULTRASONIX", "SONIX", 600, _top(970, 60)),
        ("US", "ULTRASONIX", "SONIX", 768, _top(970, 60)),
        # Screen shots, dose reports and worksheets of workstations.
        ("CT", "GE", "", 512, _top(512, 121)),
        ("CT", "GE", "", 1024, ((0, 0, 300, 150), (724, 0, 300, 150))),
        ("CT", "SIEMENS", "SOMATOM", 512, _top(512, 121)),
        ("CT", "SIEMENS", "", 860, _top(1132, 60)),
        ("CT", "PHILIPS", "", 512, _top(512, 135)),
        ("CT", "TOSHIBA", "AQUILIONONE", 512, _top(410, 240)),
        ("CT", "VIT", "", 1041, _top(795, 150)),
        ("PT", "PHILIPS", "GEMINI", 373, _top(100, 25)),
        ("PT", "PHILIPS", "GEMINI", 445, _top(140, 55)),
        ("PT", "PHILIPS", "GEMINI", 446, _top(125, 50)),
        ("NM", "SIEMENS", "", 860, ((0, 0, 1132, 90), (0, 780, 1132, 80))),
        ("NM", "SIEMENS", "", 865, _top(1132, 35)),
        ("NM", "SIEMENS", "", 882, _top(1132, 65)),
        ("NM", "ADAC", "", 832, ((0, 0, 1024, 130), (0, 762, 1024, 70))),
        ("OT", "MEDRAD", "", 1077, _top(750, 230)),
    )
)
