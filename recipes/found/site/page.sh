# page FILE TITLE: the page of a markdown file, on standard output.
cat <<HTML
<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>$2</title></head>
<body>
$(python3 -m markdown "$1")
</body>
</html>
HTML
