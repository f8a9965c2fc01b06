import os

os.mkdir("touched")
