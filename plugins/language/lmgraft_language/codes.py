"""One code for each language, whatever a model or a user calls it."""

from __future__ import annotations

__all__ = ["normal"]

#: ISO 639-3 -> 639-1. The members of a macrolanguage have its code, unless they have one of their own: Mandarin, Wu and
#: Cantonese are ``zh``, Bokmål is ``no``, Nynorsk ``nn``. In writing they are hard to tell apart in a sentence or two.
_PAIRS = """
aar aa abk ab afr af aka ak als sq amh am ara ar arb ar arg an asm as ava av aym ay ayr ay aze az azj az bak ba bam bm
bel be ben bn bih bh bis bi bod bo bos bs bre br bul bg cat ca ces cs cha ch che ce chu cu chv cv cmn zh cor kw cos co
cre cr cym cy dan da deu de div dv dzo dz ekk et ell el eng en epo eo est et eus eu ewe ee fao fo fas fa fij fj fin fi
fra fr fry fy ful ff gla gd gle ga glg gl glv gv grn gn gug gn guj gu hat ht hau ha hbs sh heb he her hz hin hi hmo ho
hrv hr hun hu hye hy ibo ig ido io iii ii ike iu iku iu ile ie ina ia ind id ipk ik isl is ita it jav jv jpn ja kal kl
kan kn kas ks kat ka kau kr kaz kk khk mn khm km kik ki kin rw kir ky kom kv kon kg kor ko kua kj kur ku kmr ku lao lo
lat la lav lv lvs lv lim li lin ln lit lt ltz lb lub lu lug lg mah mh mal ml mar mr mkd mk mlg mg mlt mt mon mn mri mi
msa ms mya my nau na nav nv nbl nr nde nd ndo ng nep ne npi ne nld nl nno nn nob no nor no nya ny oci oc oji oj ori or
ory or orm om gaz om oss os pan pa pbt ps pes fa pli pi plt mg pol pl por pt prs fa pus ps que qu quz qu roh rm ron ro
run rn rus ru sag sg san sa sin si slk sk slv sl sme se smo sm sna sn snd sd som so sot st spa es sqi sq srd sc src sc
srp sr ssw ss sun su swa sw swh sw swe sv tah ty tam ta tat tt tel te tgk tg tgl tl tha th tir ti ton to tsn tn tso ts
tuk tk tur tr twi tw uig ug ukr uk urd ur uzb uz uzn uz ven ve vie vi vol vo wln wa wol wo xho xh ydd yi yid yi yor yo
zha za zho zh zsm ms zul zu nb no iw he in id ji yi
wuu zh yue zh hak zh nan zh gan zh hsn zh cjy zh cdo zh lzh zh arz ar ary ar apc ar ajp ar acm ar aeb ar acq ar ars ar
uzs uz sdh ku fuv ff fuc ff fuf ff
"""
_WORDS = _PAIRS.split()
_NORMAL = dict(zip(_WORDS[::2], _WORDS[1::2], strict=True))


def normal(code: str) -> str:
    """``eng_Latn``, ``eng`` and ``EN`` become ``en``; ``zh-Hant``, ``zho`` and ``cmn_Hani`` become ``zh``; a language
    without a code of two letters keeps its three (``ceb``). What is no code at all becomes ``und``."""
    language = code.replace("_", "-").split("-")[0].lower()
    if not (language.isascii() and language.isalpha() and len(language) in (2, 3)):
        return "und"
    return _NORMAL.get(language, language)
