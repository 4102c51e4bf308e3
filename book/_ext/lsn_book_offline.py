"""Keep the book off the network: drop the Thebe launcher, which every page would load from a public server."""


def _is_thebe(script) -> bool:
    text = f"{getattr(script, 'filename', script)} {getattr(script, 'attributes', {}).get('body', '')}"
    return "thebe" in text.lower()


def _strip(app, pagename, templatename, context, doctree) -> None:
    context["script_files"] = [script for script in context.get("script_files", []) if not _is_thebe(script)]


def setup(app) -> dict:
    """Register with Sphinx, after the extensions that add scripts."""
    app.connect("html-page-context", _strip, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
