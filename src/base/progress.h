/*
 * What a resumable step of a parser, decoder or writer says.
 */
#ifndef MD_BASE_PROGRESS_H
#define MD_BASE_PROGRESS_H

enum md_progress {
    MD_PROGRESS_DONE,
    MD_PROGRESS_AGAIN, /* call again: with more input, more room, or after others have had their
                          turn */
    MD_PROGRESS_ERROR,
};

#endif
