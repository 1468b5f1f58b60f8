"""The page: a user's sections, their place in the queue and their results, live.
What it shows comes from /task_events; sections.js keeps the ids in the browser."""

import secrets

from flask import Blueprint, make_response, render_template, request

page = Blueprint("page", __name__)

A_MONTH_S = 30 * 24 * 3600
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; "
          "img-src 'self'; connect-src 'self'; base-uri 'none'; "
          "form-action 'self'; frame-ancestors 'none'")


@page.get("/")
def sections():
    answer = make_response(render_template("sections.html"))
    answer.headers["Content-Security-Policy"] = POLICY
    answer.headers["Cache-Control"] = "no-store"
    if not request.cookies.get("session_id"):
        # Nobody can guess it, and no script can read it: in place of a login.
        answer.set_cookie("session_id", secrets.token_urlsafe(16),
                          max_age=A_MONTH_S, httponly=True, samesite="Lax",
                          secure=request.is_secure)
    return answer
