"""The console: web pages in the API's process. Each URL is one whole page that works without JavaScript.

A page's handler calls `dispatcher.control`, as REST's does, and hands what it gets to a template. Nothing here decides
who may do what.
"""
