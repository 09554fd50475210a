"""Names of folders as people write them: the parts of a set in many spellings and languages, and names as words."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

Kind = Literal["train", "validation", "test"]

# What programs, disks and servers leave, in small letters; other names with underlines may be classes.
NO_CLASS = (
    *("__macosx", "__pycache__", "@eadir", "#recycle", "$recycle.bin", "system volume information"),
    "lost+found",
)

# Names of a part, as people write them; capitals, accents, numbers and words such as "set" or "images" do not count.
WORDS: dict[Kind, str] = {
    "train": "train training trainings trn trainieren lernen lerndaten entrainement apprentissage entrenamiento "
    "addestramento allenamento treino treinamento trening treningowe egitim обучение обучающая "
    "тренировка 训练 訓練 学習 훈련 학습 "
    "trenink trenovaci traning træning opplæring koulutus opetus harjoitus tanito antrenare antrenament latih "
    "pelatihan huanluyen huấnluyện εκπαίδευση навчання тренування تدريب אימון प्रशिक्षण entrenar treinar",
    "validation": "val valid validation validate validating dev validierung validierungs validacion validacao "
    "convalida validazione validatie walidacja dogrulama валидация проверка 验证 驗證 検証 검증 "
    "validering validointi validalas validare validasi επικύρωση валідація التحقق אימות सत्यापन",
    "test": "test tests testing tst eval evaluation holdout pruefung prufung pruefen prufen essai prueba pruebas teste "
    "testes testowe sinama тест тестовая 测试 測試 テスト 評価 시험 테스트 "
    "testit testovaci teszt tesztelo pengujian δοκιμή тестування اختبار מבחן בדיקה परीक्षण collaudo heldout",
}
FILLERS = (
    "dataset data daten donnees datos dati set images image imgs img pictures photos fotos bilder split samples part "
    "集 数据 データ 세트 셋"
)


def plain_name(name: str) -> str:
    """A name without capitals, accents, digits and signs."""
    text = unicodedata.normalize("NFKD", name.casefold())
    text = "".join(c for c in text if not unicodedata.combining(c) and (c.isalpha() or not c.isalnum()))
    return unicodedata.normalize("NFKC", text).replace("ı", "i")


KINDS: dict[str, Kind] = {
    re.sub(r"[\W_]+", "", plain_name(word)): kind for kind, words in WORDS.items() for word in words.split()
}
_FILLERS = [re.sub(r"[\W_]+", "", plain_name(word)) for word in FILLERS.split()]


def kind_of(name: str) -> Kind | None:
    """Which part a folder's name stands for; ``None`` for any other name.

    Example:
        >>> [kind_of(name) for name in ("Train", "val2017", "test_set", "entraînement", "测试集", "cat", "trainer")]
        ['train', 'validation', 'test', 'train', 'test', None, None]
    """
    words = [w for w in re.split(r"[\W_]+", plain_name(name)) if w and w not in _FILLERS]
    joined = "".join(words)
    for filler in _FILLERS:
        if joined not in KINDS:
            joined = joined.removesuffix(filler).removeprefix(filler)
    return KINDS.get(joined)


def unseen(name: str) -> bool:
    """Whether a file or folder is passed over wherever pictures are searched: hidden, or a bin, index or thumbnails.

    Example:
        >>> [unseen(name) for name in (".git", "@eaDir", "$Recycle.Bin", "cat", "_other")]
        [True, True, True, False, False]
    """
    return name.startswith(".") or name.lower() in NO_CLASS


def shown(name: str) -> str:
    """A folder's name as the name of a class: composed letters (NFC), and bytes that are no text written out."""
    return unicodedata.normalize("NFC", name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))


def kinds_in(name: str) -> set[Kind]:
    """The parts that single words of a folder's name stand for, whatever the others say.

    Example:
        >>> [sorted(kinds_in(name)) for name in ("train_cropped", "trainA", "x-test", "cat")]
        [['train'], ['train'], ['test'], []]
    """
    words = re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", name)
    return {kind for word in (name, *words) if word and (kind := kind_of(word))}
