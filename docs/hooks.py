"""Makes pages of README, CONTRIBUTING and each notebook, for MkDocs."""

from pathlib import Path

import nbconvert
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]


def on_files(files, config):
    """Adds what lies outside the folder of pages, and the notebooks as pages."""
    for source, page in (("README.md", "index.md"), ("CONTRIBUTING.md",) * 2):
        # Links start at the folder of pages here.
        content = (ROOT / source).read_text("utf-8").replace("](docs/", "](")
        files.append(File.generated(config, page, content=content))
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page, resources = nbconvert.MarkdownExporter().from_filename(
            notebook.abs_src_path,
            {"output_files_dir": f"{notebook.name}_files", "unique_key": notebook.name},
        )
        files.remove(notebook)
        folder = notebook.src_uri.rpartition("/")[0]
        made = {f"{folder}/{notebook.name}.md": page, **resources["outputs"]}
        for path, content in made.items():
            path = path if path.startswith(folder) else f"{folder}/{path}"
            files.append(File.generated(config, path, content=content))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links to notebooks lead to their pages."""
    return markdown.replace(".ipynb)", ".md)")
