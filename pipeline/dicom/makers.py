"""Makers and models of devices. Both are free text in DICOM, so only known words of them are kept.

A maker is known by how its name begins, whatever company forms and places follow. Of a model, the
words that are in the list stay, in their order. People's names are none of them, so models that
are called like a person lose that word.
"""

import re

# How names begin, in lower case, without signs → what is stored.
_MAKERS: dict[str, str] = {
    "ge ": "GE", "general electric": "GE", "gems": "GE", "lunar": "GE", "instrumentarium": "GE",
    "siemens": "Siemens", "shs": "Siemens", "acuson": "Siemens", "cti": "Siemens",
    "philips": "Philips", "picker": "Philips", "adac": "Philips", "atl ": "Philips",
    "canon": "Canon", "toshiba": "Canon", "olea": "Olea",
    "fuji": "Fujifilm", "sonosite": "Fujifilm", "hitachi": "Hitachi", "aloka": "Hitachi",
    "agfa": "Agfa", "carestream": "Carestream", "kodak": "Carestream", "eastman": "Carestream",
    "hologic": "Hologic", "lorad": "Hologic", "konica": "Konica Minolta", "shimadzu": "Shimadzu",
    "samsung": "Samsung", "medison": "Samsung", "neurologica": "Samsung", "neusoft": "Neusoft",
    "united imaging": "United Imaging", "uih": "United Imaging", "mindray": "Mindray",
    "esaote": "Esaote", "planmed": "Planmed", "planmeca": "Planmeca", "swissray": "Swissray",
    "varian": "Varian", "elekta": "Elekta", "accuray": "Accuray", "bruker": "Bruker",
    "bk medical": "BK Medical", "supersonic": "SuperSonic Imagine", "hermes": "Hermes",
    "mediso": "Mediso", "oldelft": "Oldelft", "villa sistemi": "Villa", "ziehm": "Ziehm",
    "oec": "GE", "sedecal": "Sedecal", "vieworks": "Vieworks", "drtech": "DRTECH",
    "vatech": "Vatech", "sirona": "Dentsply Sirona", "dentsply": "Dentsply Sirona",
    "gendex": "Gendex", "carl zeiss": "Zeiss", "zeiss": "Zeiss", "topcon": "Topcon",
    "heidelberg": "Heidelberg Engineering", "nidek": "Nidek", "optos": "Optos",
    "optovue": "Optovue", "kowa": "Kowa", "olympus": "Olympus", "pentax": "Pentax",
    "karl storz": "Karl Storz",
    "stryker": "Stryker", "fotofinder": "FotoFinder", "canfield": "Canfield",
    "dermlite": "DermLite", "heine": "Heine", "nikon": "Nikon", "sony": "Sony", "apple": "Apple",
    "leica": "Leica", "hamamatsu": "Hamamatsu", "imatron": "GE", "elscint": "Elscint",
    "marconi": "Philips", "terarecon": "TeraRecon", "vital images": "Vital Images",
    "analogic": "Analogic", "hyperfine": "Hyperfine", "paramed": "Paramed", "fonar": "Fonar",
    "imaging dynamics": "Imaging Dynamics", "imix": "Imix", "del medical": "Del Medical",
    "rayence": "Rayence", "iray": "iRay", "dms": "DMS", "eos imaging": "EOS imaging",
    "merge": "Merge", "sectra": "Sectra", "giotto": "IMS Giotto", "ims": "IMS Giotto",
    "metaltronica": "Metaltronica", "butterfly": "Butterfly", "clarius": "Clarius",
}  # fmt: skip

_WORDS = """
    0.35T 0.4T 0.5T 1.5 1.5T 110 128 16 190 20 2000D 210 256 3.0 3.0T 3000 32 320 3Dimensions 3T
    4 40 50 510 520 530 550 560 570 580 5D 6 60 600 610 64 650 690 70 710 715 730 760 770 780 7D
    8 90 Achieva Acuson ADC Advance Aera AeroDR Affiniti Affirm Allura Alphenix Altaira Altix
    Amulet Angio Antares Aplio Aquarius Aquilion Arcadis Arietta Aristos Artis Artiste AS+
    Ascent Aspire Asteion Avanto Axiom AXIOM-Artis Azurion Biograph BrightSpeed Brilliance Brivo
    Bucky BuckyDiagnost Capsula Capture CardioMD Centricity CineVision Cios Cirrus Clarus
    ClearVista Clinac ColorVision Combi Compact Confidence CR CR500 CR7 CR850 CR950 CR975 CS
    CS-2 CS-3 CS-7 CT CT520 CT540 CT580 CT660 CT750 CX50 CXL DC-7 DC-8 DC-N3 Definition Definium
    Digital DigitalDiagnost Digora Dimensions DirectView Discovery DR Drive DRX DRX-1
    DRX-Evolution DRX-Revolution DS+ Duo DuraDiagnost DX DynaCT E10 E9 E95 Edge Edge+ Eleva
    Elite Emotion Encore Envision Epiq EPIQ5 EPIQ7 Essence Essenta Essential Evolution Excel
    Excite Explorer Express FCR FDR Flash Flex Flow Fluorospot Force Fusion Galan GC80 GC85A GEM
    Gemini GM85 Hawkeye HD11 HD15 HD7 HDe HDx HDxt HiSpeed HS40 HS50 HS70 Icono ICT iE33
    Impression Incisive Infinia Infinix Ingenia Ingenuity Innova Inspiration Intera Intevo IQon
    iU22 LB Lightning Lightspeed Logiq Lumina Luminos Lunar M7 M9 Maestro Maestro2 Magnetom
    MammoDiagnost Mammomat mCT MLT2 mMR Mobile MobileDiagnost Mobilett Mosaic MR MR355 MR360
    MR450 MR450w MR750 MR750w Multix MX MyLab MyLabClassC MyLabEight MyLabTwice NM Nova Novation
    Nuance Oasis Omni Omnidiagnost ONE Opdima Optima Orian P6 P9 Panorama Pelerin Performa
    Perspective PET PET/CT PET/MR PETCT Pixium Plex Plus Polaris Premise Premium Prime Pristina
    Pro Prodigy Profect Prospeed Proteus Pulsera Quantum RadSpeed REGIUS Resona Resona7
    Revelation Revolution RF Rotograph RS80A RS85 RXL S2000 S3000 S6 S60 S70 S8 SC2000 Scenaria
    Scope Secondary Select Selenia Senographe Sensation Sequoia Sigma Signa Sireskop Skyra Smart
    Somatom Sonialvision Sonoline Sonos SonoSite Sparq Spectra Spectral Spectral-CT Spectralis
    Speed Stratton Supria Symbia Symphony Synchrony System Tempus Titan Tomo Tomosynthesis Trio
    Triton TrueBeam Twin uCT Ultimax Ultra Ultrasound uMR Unity uPET US Vantage Vario VCT
    Veradius Verio Verity Vision Vista Visucam Vivid Volume Voluson WS80A X300 X500 X600 X700 XA
    XG XG-1 XG5000 Xper Xplorer XR Xtream Ysio Z6 Zenition Zevo
    """
_MODELS = {word.casefold(): word for word in _WORDS.split()}


def maker(value: str) -> str | None:
    """The maker's name from the list; None for one that is not known."""
    plain = " ".join(re.findall(r"[a-z0-9]+", value.casefold())) + " "
    found = [name for name in _MAKERS if plain.startswith(name)]
    return _MAKERS[max(found, key=len)] if found else None


def model(value: str) -> str | None:
    """The known words of a model's name, as the list spells them; None if there is none.

    Numbers and short words alone say nothing, so one of the words must be longer.
    """
    words = [_MODELS.get(word.casefold()) for word in re.split(r"[\s_,;:()\[\]]+", value)]
    known = [word for word in words if word]
    telling = any(len(word) > 3 and word.isalpha() for word in known)
    return " ".join(known) if telling else None
