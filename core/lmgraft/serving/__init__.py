"""A model behind an endpoint that speaks OpenAI's protocol, and a page to chat with it.

One thread owns the model (:mod:`~lmgraft.serving.worker`) and writes all texts of all requests together; an event loop
speaks HTTP (:mod:`~lmgraft.serving.app`), behind a guard (:mod:`~lmgraft.serving.guard`). Starlette and uvicorn are the
extra ``serve``.
"""
