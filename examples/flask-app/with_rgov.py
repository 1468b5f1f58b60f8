"""The way through rgovd: no credentials, no limits, no retries here."""

import rgov

from model_call import Away, Busy, Late, Refused, Reply, TooLarge, first_text

gov = rgov.connect()  # lazy: safe in a master that forks its workers later


def ask(model_id, body, user, timeout):
    try:
        reply = gov.invoke(model_id, body, user=user, timeout=timeout)
        message = reply.json()
    except rgov.Invalid:  # a ValueError, which says what is wrong
        raise
    except rgov.TooLarge as e:
        raise TooLarge(str(e)) from e
    except (rgov.QueueFull, rgov.UserLimit) as e:
        raise Busy(str(e), e.retry_after) from e
    except rgov.Rejected as e:  # draining, no credentials, no memory
        raise Away(str(e), e.retry_after) from e
    except rgov.Unavailable as e:
        raise Away(str(e)) from e
    except rgov.Timeout as e:
        raise Late(str(e)) from e
    except rgov.UpstreamError as e:
        if e.status == 429:  # throttled to the last attempt
            raise Busy(str(e)) from e
        raise Refused(str(e)) from e
    return Reply(text=first_text(message),
                 input_tokens=reply.usage.input_tokens,
                 output_tokens=reply.usage.output_tokens,
                 execution_s=reply.execution_time, attempts=reply.attempts,
                 request_id=reply.request_id)


def stats():
    try:
        return gov.get_stats()
    except rgov.Unavailable as e:
        raise Away(str(e)) from e
