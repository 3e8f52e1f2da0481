"""Downloading of images from links: polite, bounded and resumable.

    with Fetcher(config) as fetcher:                          # zebra.curate.fetch.fetcher
        for image in fetcher.fetch(urls, folder):             # a FetchedImage per distinct URL, as they finish
            image.status                                      # "kept", "permanent" or "passing"
            image.reason, image.detail                        # None if the image is kept
            data = read_fetched(folder, image)                # its bytes; zebra.curate.fetch.attempts

`folder` belongs to one list of URLs, such as a unit of a pool. It holds the bytes and an append-only record of
attempts. The same call continues after an interruption and repeats no request; `again=True` repeats passing failures.
Several threads may call `fetch` of one Fetcher with different folders: they share its limits and caches, and a slow
host at the end of one unit does not delay the next.
"""
