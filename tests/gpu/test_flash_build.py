"""The trimmed flash-attn: its sources are edited exactly, and compiled only once."""

import subprocess
import sys
import tarfile
from importlib import metadata

import pytest

from tests.gpu import build_flash, flash_source
from tests.gpu.steps import NotHere, PartFailed, Setting

STOCK = {
    flash_source.SWITCHES: (
        "#define FP16_SWITCH(COND, ...)  \\\n  stock()\n\n"
        "#define HEADDIM_SWITCH(HEADDIM, ...)  \\\n  stock()\n"
    ),
    flash_source.BINDINGS: f"{flash_source.FORWARD}    FP16_SWITCH();\n}}\n",
    "flash_attn/__init__.py": "",
}


def archive_of(tmp_path, **changes):
    """A miniature of the real archive, with some files changed or left out (None)."""
    kernels = dict.fromkeys(flash_source.units((64, 128), ("bf16", "fp16"))[:-2], "")
    files = {**kernels, **STOCK, **changes}
    root = tmp_path / "flash_attn-0"
    for name, text in files.items():
        if text is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    with tarfile.open(tmp_path / "source.tar.gz", "w:gz") as packed:
        packed.add(root, arcname="flash_attn-0")
    return tmp_path / "source.tar.gz"


def test_sources_are_pinned_to_one_head_size_and_type_and_refuse_others(tmp_path):
    root = tmp_path / "trimmed"
    flash_source.prepare(archive_of(tmp_path), root, (128,), ("bf16",))
    switches = (root / flash_source.SWITCHES).read_text()
    pinned, stock = switches.split("#define STOCK_FP16_SWITCH(COND, ...)")
    assert "using elem_type = cutlass::bfloat16_t;" in pinned and "half_t" not in pinned
    assert "kHeadDim = 128;" in stock and "#define STOCK_HEADDIM_SWITCH(HEADDIM, ...)" in stock
    bindings = (root / flash_source.BINDINGS).read_text()
    assert "TORCH_CHECK((params.d == 128) && params.is_bf16," in bindings.splitlines()[1]
    stub = (root / flash_source.STUB).read_text()
    assert stub.count("run_mha_bwd_<cutlass::bfloat16_t, 128,") == 2
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("trimmed")) == ["trimmed"]


def test_two_sizes_and_both_types_keep_the_switch_of_types(tmp_path):
    root = tmp_path / "trimmed"
    flash_source.prepare(archive_of(tmp_path), root, (64, 128), ("bf16", "fp16"))
    switches = (root / flash_source.SWITCHES).read_text()
    assert switches.startswith("#define FP16_SWITCH(COND, ...)  \\\n  stock()")
    assert "if (HEADDIM == 64)" in switches and "kHeadDim = 128;" in switches
    guard = (root / flash_source.BINDINGS).read_text().splitlines()[1]
    assert "TORCH_CHECK(params.d == 64 || params.d == 128, " in guard
    assert (root / flash_source.STUB).read_text().count("run_mha_bwd_<") == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({flash_source.SWITCHES: STOCK[flash_source.SWITCHES] * 2}, "there 2 times, expected 1"),
        ({flash_source.BINDINGS: "void run_mha_fwd() {\n"}, "flash_api.cpp.*there 0 times"),
        ({flash_source.SWITCHES: None}, "static_switch.h.*there 0 times"),
        (
            {"csrc/flash_attn/src/flash_fwd_hdim128_bf16_sm80.cu": None},
            "has no .*hdim128_bf16_sm80",
        ),
    ],
)
def test_sources_that_have_changed_stop_the_build(tmp_path, changes, message):
    with pytest.raises(flash_source.SourceChanged, match=message):
        flash_source.prepare(
            archive_of(tmp_path, **changes), tmp_path / "trimmed", (128,), ("bf16",)
        )
    assert not (tmp_path / "trimmed").exists()


def test_edits_are_made_all_or_none(tmp_path):
    (tmp_path / "a").write_text("one")
    edits = [flash_source.Edit("a", "one", "two"), flash_source.Edit("b", "one", "two")]
    with pytest.raises(flash_source.SourceChanged, match="b: 'one' is there 0 times"):
        flash_source.apply(edits, tmp_path)
    assert (tmp_path / "a").read_text() == "one"


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """A stand-in for nvcc that notes what it compiles and refuses what the file `broken` names."""
    script = tmp_path / "nvcc"
    script.write_text(
        "#!/bin/sh\n"
        f'echo "$2" >> {tmp_path}/compiled\n'
        f'if grep -qs "$(basename "$2")" {tmp_path}/broken; then echo "no such type"; exit 1; fi\n'
        'touch "$4"\n'
    )
    script.chmod(0o755)
    monkeypatch.setattr(build_flash, "nvcc", lambda: script)
    monkeypatch.setattr(build_flash, "architecture", lambda: "90")
    monkeypatch.setattr(build_flash, "require_tools", lambda setting: None)
    monkeypatch.setattr(build_flash.cpp_extension, "include_paths", lambda kind: ["/torch"])
    return lambda: (tmp_path / "compiled").read_text().split()


def test_a_build_compiles_only_what_is_not_compiled_yet(tmp_path, compiler):
    setting = Setting(tmp_path / "out", "cpu", True, archive_of(tmp_path))
    build_flash.sources(setting)
    (tmp_path / "broken").write_text("flash_fwd_split_hdim128_bf16_sm80.cu")
    with pytest.raises(PartFailed, match="1 of 6 units do not compile") as fault:
        build_flash.objects(setting)
    assert fault.value.found == {
        "csrc/flash_attn/src/flash_fwd_split_hdim128_bf16_sm80.cu": "no such type\n"
    }
    assert len(compiler()) == 6
    (tmp_path / "broken").unlink()
    seconds = build_flash.objects(setting)["seconds"]
    assert len(compiler()) == 7 and len(seconds) == 6
    assert len(list(build_flash.objects_folder(setting).glob("*.o"))) == 6


def test_objects_for_other_head_sizes_are_kept_apart(tmp_path, compiler):
    folders = {
        build_flash.objects_folder(Setting(tmp_path, head_dims=sizes))
        for sizes in ((128,), (64, 128))
    }
    assert len(folders) == 2


def test_the_window_is_never_left_out_of_a_build(tmp_path, compiler):
    command = build_flash.compile_command(tmp_path, "a.cu", tmp_path / "a.o", "90")
    assert "arch=compute_90,code=sm_90" in command and "-I/torch" in command
    left_out = {word for word in command if word.startswith("-DFLASHATTENTION_DISABLE_")}
    assert len(left_out) == 5 and "-DFLASHATTENTION_DISABLE_LOCAL" not in left_out


def test_a_build_without_an_archive_says_what_to_give(tmp_path, compiler):
    setting = Setting(tmp_path / "out", "cpu", small=True)
    with pytest.raises(NotHere, match="--flash-source flash_attn-2.8.3.post2.tar.gz"):
        build_flash.sources(setting)
    wrong = Setting(setting.out, "cpu", True, None, head_dims=(80,))
    with pytest.raises(ValueError, match=r"cannot build for \[80\]: choose from"):
        build_flash.sources(wrong)


def package_in(folder, text='__version__ = "2.8.3.post2"\n'):
    """A package by the name of flash_attn, as the kit copies it."""
    (folder / "flash_attn").mkdir(parents=True)
    (folder / "flash_attn" / "__init__.py").write_text(text)
    return folder


def test_the_built_package_is_found_by_its_metadata(tmp_path, monkeypatch):
    build_flash.write_metadata(package_in(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    assert metadata.version("flash-attn") == "2.8.3.post2"
    assert metadata.packages_distributions()["flash_attn"] == ["flash-attn"]


def test_transformers_takes_the_built_package_for_flash_attention(tmp_path):
    pytest.importorskip("transformers")
    setting = Setting(tmp_path)
    build_flash.write_metadata(package_in(build_flash.flash_folder(setting)))
    program = (
        "from transformers.utils import import_utils\n"
        "import_utils.is_torch_cuda_available = lambda: True\n"
        "print(import_utils.is_flash_attn_2_available())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=build_flash.environment(setting),
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["True"], done.stderr


def test_a_package_without_a_version_fails_the_part(tmp_path):
    with pytest.raises(PartFailed, match="names no version"):
        build_flash.write_metadata(package_in(tmp_path, ""))
