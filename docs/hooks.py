"""Makes a page of each notebook, for MkDocs."""

import nbconvert
from mkdocs.structure.files import File


def on_files(files, config):
    """Puts a page and its pictures in the place of each notebook."""
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
