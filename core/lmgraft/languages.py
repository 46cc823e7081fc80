"""Languages as codes: what a model card may say, and the code that somebody meant who wrote another word.

The hub files a model under codes of ISO 639: two letters (639-1) where a language has them, three (639-2 and 639-3)
elsewhere, and its own words ``multilingual`` and ``code``. A script or a region may follow, as in ``zh-Hans``. Codes of
three letters are some 8,000, so that they are known by their shape alone.
"""

from __future__ import annotations

import difflib
import re

__all__ = ["wrong"]

#: ISO 639-1, with ``bh`` and ``sh`` that it has given up and the hub has not, and the names in English.
_NAMES = dict(
    pair.split(" ", 1)
    for pair in """\
aa Afar; ab Abkhazian; ae Avestan; af Afrikaans; ak Akan; am Amharic; an Aragonese; ar Arabic; as Assamese; av Avaric;
ay Aymara; az Azerbaijani; ba Bashkir; be Belarusian; bg Bulgarian; bi Bislama; bm Bambara; bn Bengali; bo Tibetan; br
Breton; bs Bosnian; ca Catalan; ce Chechen; ch Chamorro; co Corsican; cr Cree; cs Czech; cu Church Slavic; cv Chuvash;
cy Welsh; da Danish; de German; dv Divehi; dz Dzongkha; ee Ewe; el Greek; en English; eo Esperanto; es Spanish; et
Estonian; eu Basque; fa Persian; ff Fula; fi Finnish; fj Fijian; fo Faroese; fr French; fy Western Frisian; ga Irish;
gd Scottish Gaelic; gl Galician; gn Guarani; gu Gujarati; gv Manx; ha Hausa; he Hebrew; hi Hindi; ho Hiri Motu; hr
Croatian; ht Haitian Creole; hu Hungarian; hy Armenian; hz Herero; ia Interlingua; id Indonesian; ie Interlingue; ig
Igbo; ii Sichuan Yi; ik Inupiaq; io Ido; is Icelandic; it Italian; iu Inuktitut; ja Japanese; jv Javanese; ka
Georgian; kg Kongo; ki Kikuyu; kj Kuanyama; kk Kazakh; kl Kalaallisut; km Khmer; kn Kannada; ko Korean; kr Kanuri; ks
Kashmiri; ku Kurdish; kv Komi; kw Cornish; ky Kyrgyz; la Latin; lb Luxembourgish; lg Ganda; li Limburgish; ln Lingala;
lo Lao; lt Lithuanian; lu Luba-Katanga; lv Latvian; mg Malagasy; mh Marshallese; mi Maori; mk Macedonian; ml
Malayalam; mn Mongolian; mr Marathi; ms Malay; mt Maltese; my Burmese; na Nauru; nb Norwegian Bokmal; nd North
Ndebele; ne Nepali; ng Ndonga; nl Dutch; nn Norwegian Nynorsk; no Norwegian; nr South Ndebele; nv Navajo; ny Nyanja;
oc Occitan; oj Ojibwa; om Oromo; or Odia; os Ossetic; pa Punjabi; pi Pali; pl Polish; ps Pashto; pt Portuguese; qu
Quechua; rm Romansh; rn Rundi; ro Romanian; ru Russian; rw Kinyarwanda; sa Sanskrit; sc Sardinian; sd Sindhi; se
Northern Sami; sg Sango; si Sinhala; sk Slovak; sl Slovenian; sm Samoan; sn Shona; so Somali; sq Albanian; sr Serbian;
ss Swati; st Southern Sotho; su Sundanese; sv Swedish; sw Swahili; ta Tamil; te Telugu; tg Tajik; th Thai; ti
Tigrinya; tk Turkmen; tl Tagalog; tn Tswana; to Tongan; tr Turkish; ts Tsonga; tt Tatar; tw Twi; ty Tahitian; ug
Uyghur; uk Ukrainian; ur Urdu; uz Uzbek; ve Venda; vi Vietnamese; vo Volapuk; wa Walloon; wo Wolof; xh Xhosa; yi
Yiddish; yo Yoruba; za Zhuang; zh Chinese; zu Zulu; bh Bihari; sh Serbo-Croatian""".replace("\n", " ").split("; ")
)
_WORDS = frozenset({"multilingual", "code"})
#: Words that are no code: by name, and countries of another code than their language.
_MEANT = {name.lower(): code for code, name in _NAMES.items()} | {
    "castilian": "es", "deutsch": "de", "espanol": "es", "español": "es", "farsi": "fa", "flemish": "nl",
    "français": "fr", "gaelic": "gd", "italiano": "it", "mandarin": "zh", "nederlands": "nl", "polski": "pl",
    "português": "pt", "svenska": "sv", "中文": "zh", "日本語": "ja", "한국어": "ko", "русский": "ru",
    "cn": "zh", "cz": "cs", "dk": "da", "gb": "en", "gr": "el", "jp": "ja", "ua": "uk", "us": "en", "vn": "vi",
    "in": "id", "iw": "he", "ji": "yi",
}  # fmt: skip
_REST = re.compile(r"(-[a-z]{4})?(-([a-z]{2}|\d{3}))?(-([a-z\d]{5,8}|\d[a-z\d]{3}))*", re.IGNORECASE)


def wrong(code: str) -> tuple[str, str] | None:
    """(why this is no language's code, the code that was meant or ``""``); None where it is one."""
    first, rest = _halves(code)
    if _known(first) and _REST.fullmatch(rest):
        return None
    meant = _meant(code)
    if meant:
        return f"the card names languages by ISO 639, and this one is {meant} there", meant
    cause = "the card names languages by codes of ISO 639, such as en, de or zh-Hans"
    return (cause, "") if len(first) != 2 else (f"{cause}, and no language has this one", "")


def _halves(code: str) -> tuple[str, str]:
    first, mark, rest = code.partition("-")
    return first, mark + rest


def _known(first: str) -> bool:
    return first in _NAMES or first in _WORDS or re.fullmatch("[a-z]{3}", first) is not None


def _meant(code: str) -> str:
    """``en`` of English, englsh, EN and us; ``en-US`` of en_US; an empty string where nothing is near."""
    plain = code.strip().lower()
    first, rest = _halves(code.strip().replace("_", "-"))
    if _known(first.lower()) and _REST.fullmatch(rest):
        return first.lower() + rest
    if plain in _MEANT:
        return _MEANT[plain]
    near = difflib.get_close_matches(plain, _MEANT, n=1, cutoff=0.75) if len(plain) > 4 else []
    return _MEANT[near[0]] if near else ""
